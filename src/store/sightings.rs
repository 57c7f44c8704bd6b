//! The sighting log, as those read it who ask why.

use super::{
    Store, StoreError,
    sql::{Arg, Row, Statement, statement},
};
use crate::{
    clock::WallTime,
    mac::MacAddr,
    record::{BusinessId, CoworkerId},
    sighting::DoorKey,
};

/// Sightings that one question returns, at most: the first ones. A busy site has some ten thousand a day.
const RETURNED: i64 = 20_000;

const BETWEEN: Statement = statement!(
    "SELECT * FROM sightings WHERE business_id = $1 AND event_at >= $2 AND event_at < $3 ORDER BY event_at, key LIMIT $4"
);

/// A line of the sighting log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedSighting {
    /// The `[[source]]`, or the interface.
    pub source: String,
    /// The door; none for the network.
    pub door: Option<DoorKey>,
    /// The word of what happened; `network` for presences.
    pub kind: String,
    /// The credential as the controller sent it; never a PIN.
    pub credential: Option<String>,
    /// The device.
    pub mac: Option<MacAddr>,
    /// Who.
    pub coworker: Option<CoworkerId>,
    /// When it happened.
    pub event_at: WallTime,
    /// The word of what became of it.
    pub decision: String,
    /// The word of why.
    pub reason: Option<String>,
    /// Frames that were merged into it.
    pub frames: i64,
}

impl Store {
    /// The sightings of a business from one instant up to another, earliest first, at most 20,000.
    pub async fn sightings(
        &self,
        business: BusinessId,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<LoggedSighting>, StoreError> {
        let args = [Arg::Int(business.0), Arg::Time(from), Arg::Time(to), Arg::Int(RETURNED)];
        self.sql.read(BETWEEN, &args).await?.iter().map(logged).collect()
    }
}

fn logged(row: &Row) -> Result<LoggedSighting, StoreError> {
    Ok(LoggedSighting {
        source: row.text("source")?,
        door: row.opt_text("door")?.map(DoorKey),
        kind: row.text("kind")?,
        credential: row.opt_text("credential")?,
        mac: row.opt_text("mac")?.and_then(|mac| mac.parse().ok()),
        coworker: row.opt_int("coworker_id")?.map(CoworkerId),
        event_at: row.time("event_at")?,
        decision: row.text("decision")?,
        reason: row.opt_text("reason")?,
        frames: row.int("frames")?,
    })
}
