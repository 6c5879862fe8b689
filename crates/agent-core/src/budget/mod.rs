//! The budget of a whole tree of calls: one ledger, leases on it, and reservations that always settle.

mod lease;
mod ledger;
mod limits;

pub use lease::{CarveOut, Lease, Reservation, SavedLease};
pub use limits::{Exceeded, Limits, Resource};
