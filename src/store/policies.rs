//! The settings of sites, current and past: a fact is decided by the settings in force when it happened.

use super::{
    error::StoreError,
    handle::Store,
    statement::{Arg, Statement, statement},
    stored::Row,
};
use crate::{
    base::{clock::WallTime, random, record::BusinessId, version::VersionId},
    policy::{HISTORY, PolicyHistory, SitePolicy},
};

const ALL: Statement =
    statement!("SELECT number, id, business_id, in_force, policy FROM site_policies ORDER BY in_force, number");
/// The numbers only grow, except in a restore: a gateway that sees another one, or another id, reads all of them again.
/// If two gateways write at once, the primary key makes one fail.
const PUT: Statement = statement!(
    "INSERT INTO site_policies (number, business_id, in_force, policy, id)
     SELECT coalesce(max(number), 0) + 1, $1, $2, $3, $4 FROM site_policies"
);
/// These were written while the clock was ahead: they never came into force.
const DROP_AHEAD: Statement = statement!("DELETE FROM site_policies WHERE business_id = $1 AND in_force > $2");
/// The one of a business in force at `$2` stays, however old.
const FORGET: Statement = statement!(
    "DELETE FROM site_policies WHERE business_id = $1 AND in_force < (SELECT max(p.in_force) FROM site_policies p
       WHERE p.business_id = $1 AND p.in_force <= $2)"
);

impl Store {
    /// Every policy of every business that a late fact may need. This site's own is written first, in force from `now`,
    /// if it differs from the last.
    pub async fn policies(&self, own: &SitePolicy, now: WallTime) -> Result<PolicyHistory, StoreError> {
        let business = own.site.business;
        let known = self.read_policies().await?;
        let decides = [known.latest(business), known.at(business, now)];
        if decides.iter().all(|policy| policy.is_some_and(|policy| **policy == *own)) {
            return Ok(known);
        }
        let text = serde_json::to_string(own).expect("settings are plain data");
        let mut transaction = self.sql.begin().await?;
        let args =
            [Arg::Int(business.0), Arg::Int(now.millis()), Arg::Text(text), Arg::Text(random::uuid().to_string())];
        transaction.change(PUT, &args).await?;
        transaction.change(DROP_AHEAD, &[Arg::Int(business.0), Arg::Int(now.millis())]).await?;
        transaction.change(FORGET, &[Arg::Int(business.0), Arg::Int(now.minus(HISTORY).millis())]).await?;
        transaction.commit().await?;
        self.read_policies().await
    }

    /// Every policy of every business that a late fact may need. One that cannot be read, because a newer version wrote
    /// it, is skipped with a warning.
    pub async fn read_policies(&self) -> Result<PolicyHistory, StoreError> {
        let mut history = PolicyHistory::default();
        for row in self.sql.read(ALL, &[]).await? {
            let version = version_id(&row)?;
            if version.number > history.newest.number {
                history.newest = version;
            }
            let business = BusinessId(row.int("business_id")?);
            match serde_json::from_str::<SitePolicy>(&row.text("policy")?) {
                Ok(policy) if policy.site.business == business => {
                    history.add(WallTime::from_millis(row.int("in_force")?), policy);
                }
                Ok(_) | Err(_) => {
                    tracing::warn!(
                        business = business.0,
                        "the settings of a site cannot be read; a newer checkind wrote them"
                    );
                }
            }
        }
        Ok(history)
    }
}

fn version_id(row: &Row) -> Result<VersionId, StoreError> {
    Ok(VersionId::read(row.int("number")?, &row.text("id")?))
}
