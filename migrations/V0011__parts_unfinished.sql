-- Replaced by parts_at_work. Not in one transaction with it: who waits to write for the one to be built would have to be
-- waited for to drop the other.
DROP INDEX parts_unfinished;
