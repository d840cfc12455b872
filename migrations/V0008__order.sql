-- When a dialog was last heard of from Avito: what follows within a few seconds waits a little, so that messages that
-- overtook each other on their way are put in order before they are shown.
ALTER TABLE dialogs ADD COLUMN heard_at timestamptz;
