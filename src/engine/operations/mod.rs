//! The kinds of orders that are executed in batches.

mod adjustments;
mod awards;
mod heists;
mod operation;

pub(super) use self::{
    adjustments::Adjustments, awards::Awards, heists::Heists, operation::Operation,
};
