-- What `migrate` makes of the statements that each message needs: functions, whose statements Postgres plans once per session.
-- They run with their caller's rights, under the policies of the tables.
CREATE SCHEMA plans;
GRANT USAGE ON SCHEMA plans TO tuberry_app, tuberry_identity, tuberry_service;
