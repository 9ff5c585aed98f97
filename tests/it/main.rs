//! The service as its callers see it: the real server on a free port, the real client, and a
//! PostgreSQL database of its own for each test. One file per topic; [`harness`] is the stage.

mod harness;

mod execute_heist;
