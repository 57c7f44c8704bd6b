//! PURE. Lists the facts that the database did not take.

use serde_json::{Value, json};

use super::words::{door_text, edit_text, local};
use crate::{
    base::{
        fact::{Fact, StoredFact},
        plain::plain,
    },
    cli::print::pretty,
    policy::PolicyHistory,
    store::SetAsideFact,
};

/// The facts as text, a line for each.
pub fn set_aside_text(facts: &[SetAsideFact], policies: &PolicyHistory) -> String {
    if facts.is_empty() {
        return "Nothing is set aside.\n".to_owned();
    }
    let line = |aside: &SetAsideFact| {
        let SetAsideFact { fact, at, why } = aside;
        let [happened, set_aside] = [fact.at, *at].map(|at| local(policies, fact.business, at));
        let who = fact.subject.as_coworker().map_or_else(String::new, |coworker| format!(" (coworker {coworker})"));
        format!(
            "{}  {}{who} -> set aside at {}: the database answered \"{}\"\n",
            happened.format("%Y-%m-%d %H:%M:%S"),
            what(fact, policies),
            set_aside.format("%Y-%m-%d %H:%M:%S"),
            plain(why)
        )
    };
    facts.iter().map(line).collect()
}

/// The facts as JSON.
pub fn set_aside_json(facts: &[SetAsideFact], policies: &PolicyHistory) -> String {
    let one = |aside: &SetAsideFact| {
        json!({
            "At": aside.fact.at.to_rfc3339_seconds(),
            "SetAsideAt": aside.at.to_rfc3339_seconds(),
            "BusinessId": aside.fact.business,
            "CoworkerId": aside.fact.subject.as_coworker(),
            "What": what(&aside.fact, policies),
            "Answer": aside.why,
        })
    };
    pretty(&facts.iter().map(one).collect::<Value>())
}

/// What was reported.
fn what(fact: &StoredFact, policies: &PolicyHistory) -> String {
    match Fact::read(fact) {
        Ok(Fact::Door(door)) => door_text(&door, policies),
        Ok(Fact::Presence(presence)) => format!("network {}, {}", plain(&presence.interface), presence.mac),
        Ok(Fact::UnknownDevice(device)) => format!("network {}, {}", plain(&device.interface), device.mac),
        Ok(Fact::Rejected(rejected)) => {
            format!(
                "message of {} on {}, not understood: {}",
                plain(&rejected.source),
                plain(&rejected.topic),
                rejected.why
            )
        }
        Ok(Fact::Edit(edit)) => edit_text(&edit, policies),
        Err(fault) => fault.to_string(),
    }
}
