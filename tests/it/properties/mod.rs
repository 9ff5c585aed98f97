//! Random programs against the rules and against a sequential model.

mod domain;
mod model;
