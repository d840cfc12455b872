-- What a dialog's holder asks for with each look: its parts that are still to be sent or to be taken back. The former index
-- left out those to be taken back, so all parts of all dialogs were read for them.
CREATE INDEX parts_at_work ON parts (dialog_id, message_id, place) WHERE state IN ('pending', 'sending', 'deleting');
