//! The metrics registered at start: one row each, with the type, the name, the unit and the help.

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use crate::{base::closed_list::closed_list, engine::decision::Outcome, mapping::content::RejectReason};

/// Upper bounds for batch sizes: powers of four up to the largest batch.
const BATCH_BUCKETS: (f64, f64, u16) = (1.0, 4.0, 7);

/// Upper bounds for batch durations in seconds: 1 ms to 8 s, doubling. A batch on a good disk takes about 10 ms.
const SECONDS_BUCKETS: (f64, f64, u16) = (0.001, 2.0, 14);

/// Upper bounds for the lag in seconds: 1 ms to 73 hours, each four times the last. A database may be down for a day.
const LAG_BUCKETS: (f64, f64, u16) = (0.001, 4.0, 15);

/// A metric's only label: its name, and a value from a closed list.
pub(super) type Label = [(&'static str, &'static str); 1];

closed_list! {
    /// A queue between two parts of the program.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Queue {
        /// Door messages from the broker session to the pipeline, in messages.
        Deliveries = "deliveries",
        /// Coalesced presences from the captures to the pipeline, in lists of presences.
        Presences = "presences",
    }

    /// The label's value.
    fn word;
}

closed_list! {
    /// The result of checking a credential sent to the API.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum SignIn {
        /// It was valid.
        Accepted = "accepted",
        /// It was not.
        Refused = "refused",
        /// It was not checked: there were too many failures before.
        Throttled = "throttled",
    }

    /// The label's value.
    fn word;
}

closed_list! {
    /// Why a connection to the API was cut.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum ConnectionCut {
        /// It waited for its client, and another one needed the place.
        GaveWay = "gave_way",
        /// There was no place for it.
        Refused = "refused",
        /// The client did not read its response.
        Unread = "unread",
    }

    /// The label's value.
    fn word;
}

/// Declares [`Instruments`]. A row has the field, its type, its name after `checkind_` (with its unit in brackets), its
/// help and its initial value. `codes` names the argument with the reasons of failed check-ins.
macro_rules! instruments {
    ($codes:ident; $($field:ident: $kind:ty = $name:literal $([$unit:ident])?, $help:literal, $start:expr;)+) => {
        /// The metrics of the program, except those read at scrape.
        #[derive(Clone, Debug)]
        pub(super) struct Instruments {
            $(#[doc = $help] pub(super) $field: $kind,)+
        }

        impl Instruments {
            /// All at zero. `codes` are the reasons of failed check-ins.
            pub(super) fn new($codes: &[&'static str]) -> Self {
                Self { $($field: $start,)+ }
            }

            /// Registers each metric under its name.
            pub(super) fn register(&self, registry: &mut Registry) {
                registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
                $(instruments!(@ registry, self.$field.clone(), $name $([$unit])?, $help);)+
            }
        }
    };
    (@ $registry:ident, $metric:expr, $name:literal, $help:literal) => {
        $registry.register($name, $help, $metric)
    };
    (@ $registry:ident, $metric:expr, $name:literal [$unit:ident], $help:literal) => {
        $registry.register_with_unit($name, $help, Unit::$unit, $metric)
    };
}

instruments! {
    codes;
    door_events: Counter = "door_events", "Door events received from the broker", Counter::default();
    kiosk_taps: Counter = "kiosk_taps", "Cards, PINs and devices shown at kiosks as at a door", Counter::default();
    presences: Counter = "presences", "Device presences received from the captures", Counter::default();
    decisions: Family<Label, Counter> = "decisions", "Facts decided, by outcome",
        at_zero("outcome", Outcome::ALL.map(Outcome::word));
    failed_checkins: Family<Label, Counter> = "failed_checkins", "Failed check-ins written, by reason",
        at_zero("code", codes.iter().copied());
    rejected_messages: Family<Label, Counter> = "rejected_messages", "Messages that could not be mapped, by reason",
        at_zero("reason", RejectReason::ALL.map(RejectReason::word));
    batch_sightings: Histogram = "batch_sightings", "Facts per committed batch",
        Histogram::new(buckets(BATCH_BUCKETS));
    batch_duration: Histogram = "batch_duration" [Seconds], "Time from the start of a batch to its commit",
        Histogram::new(buckets(SECONDS_BUCKETS));
    lag: Histogram = "lag" [Seconds], "Time from the arrival of a door message to the commit of its decision",
        Histogram::new(buckets(LAG_BUCKETS));
    commit_failures: Counter = "commit_failures", "Attempts of the pipeline at the database that failed, including reads",
        Counter::default();
    left_out: Counter = "unrecognised_left_out",
        "Presences of unrecognised devices that got no failed check-in because the daily limit was reached", Counter::default();
    decided_again: Counter = "decided_again", "People folded again, because of a late fact, a silence proven later, a clock step or a new directory",
        Counter::default();
    open_checkins: Gauge = "open_checkins", "Check-ins open at this gateway's business", Gauge::default();
    api_connections: Gauge = "api_connections", "Open connections to the API", Gauge::default();
    connections_cut: Family<Label, Counter> = "api_connections_cut",
        "Connections to the API that were cut: idle ones that gave way, ones without a place, ones that did not read",
        at_zero("reason", ConnectionCut::ALL.map(ConnectionCut::word));
    queue_depth: Family<Label, Gauge> = "queue_depth", "Entries waiting in a queue",
        at_zero("queue", Queue::ALL.map(Queue::word));
    signins: Family<Label, Counter> = "api_signins",
        "Sign-ins that the API accepted, and credentials of any kind that it refused",
        at_zero("result", SignIn::ALL.map(SignIn::word));
}

/// A family that starts with every value of the label, at zero.
fn at_zero<M>(label: &'static str, values: impl IntoIterator<Item = &'static str>) -> Family<Label, M>
where
    M: Default + Clone,
{
    let family = Family::<Label, M>::default();
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
    family
}

fn buckets((first, factor, count): (f64, f64, u16)) -> impl Iterator<Item = f64> {
    exponential_buckets(first, factor, count)
}
