//! PURE. `[site] passes` and `[pay_as_you_go]`: when a pass is required, and what a visit without one costs.

use std::time::Duration;

use chrono::Weekday;
use serde::{Deserialize, Serialize};

use crate::directory::{Directory, catalogue::Currency};

/// The rules of a site for passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassPolicy {
    /// `[site] passes`.
    pub asked: PassesAsked,
    /// `[site] week_starts_on`.
    pub week_starts_on: Weekday,
    /// `[pay_as_you_go]`; `None` if it is off.
    pub pay_as_you_go: Option<PayAsYouGo>,
}

impl Default for PassPolicy {
    fn default() -> Self {
        Self {
            asked: PassesAsked::IfAny,
            week_starts_on: Weekday::Mon,
            pay_as_you_go: Some(PayAsYouGo {
                currency: Currency::GBP,
                minimum: 0,
                maximum: None,
                step: Duration::from_mins(15),
            }),
        }
    }
}

impl PassPolicy {
    /// Whether a pass is required. Archived kinds of passes count: archiving the last one must not open the doors.
    pub fn asks(&self, directory: &Directory) -> bool {
        match self.asked {
            PassesAsked::IfAny => directory.knows_passes(),
            PassesAsked::Required => true,
            PassesAsked::Off => false,
        }
    }
}

/// `passes`: when a valid pass is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PassesAsked {
    /// As soon as the directory has any kind of pass.
    IfAny,
    /// Always.
    Required,
    /// Never.
    Off,
}

/// `[pay_as_you_go]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayAsYouGo {
    /// `currency`.
    pub currency: Currency,
    /// `minimum`: the least that a pass day costs, in minor units.
    pub minimum: i64,
    /// `maximum`: the most that a pass day costs, in minor units.
    pub maximum: Option<i64>,
    /// `step`: stays are charged in steps of this length; a step that has begun is charged in full.
    pub step: Duration,
}
