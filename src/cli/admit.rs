//! `checkind admit`: tells whether someone would be let in, with which pass and until when, or why not. Writes nothing.

use std::{fmt::Write as _, sync::Arc};

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        plain::plain,
        record::{BusinessId, CheckinSource, CoworkerId},
    },
    cli::{
        lookup::{AskedAbout, WhoError, asked, find},
        print::{money, pass_end, pass_name, pretty},
    },
    directory::{Coworker, Directory, Match, history::DirectoryHistory},
    engine::{
        decision::{Note, Reason},
        passes::{PassKind, PassUse, Refused, payg},
    },
    pipeline::{WouldAdmit, would_admit},
    policy::{
        PolicyHistory, SitePolicy,
        calendar::Calendar,
        site::{NetworkOpens, Site},
    },
    store::{Store, StoreError},
};

/// The text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a time; write 10:30, \"2026-01-31 10:30\" in the site's time zone, or 2026-01-31T10:30:00Z")]
pub struct TimeError(String);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The text names no single coworker, card or device.
    #[error(transparent)]
    Who(#[from] WhoError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What would happen.
#[derive(Debug)]
pub struct AdmitAnswer {
    site: Site,
    at: WallTime,
    by: CheckinSource,
    coworker: Option<(CoworkerId, String)>,
    verdict: Verdict,
}

#[derive(Debug)]
enum Verdict {
    /// They are already in, since this time, and need no further check.
    In(WallTime),
    Admitted(Option<UsablePass>),
    Refused(Refused),
    /// The settings do not let the network open this check-in.
    NotByNetwork(&'static str),
}

/// A pass that would be used.
#[derive(Debug)]
struct UsablePass {
    name: String,
    used: PassUse,
    first_charge: Option<payg::Charge>,
}

/// Reads the value of `--at`. A time of day means today.
///
/// # Errors
/// It is not a time.
pub fn time(text: &str, site: &Site, now: WallTime) -> Result<WallTime, TimeError> {
    let calendar = calendar(site);
    if let Ok(instant) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(WallTime::from(instant.to_utc()));
    }
    let on = |date: NaiveDate, time: NaiveTime| calendar.instant(date.and_time(time));
    if let Ok(time) = NaiveTime::parse_from_str(text, "%H:%M") {
        return Ok(on(calendar.local(now).date(), time));
    }
    let local = ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"];
    let local = local.into_iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    local.map(|local| calendar.instant(local)).ok_or_else(|| TimeError(text.chars().take(40).collect()))
}

/// Answers for the holder of this card or device, or for the coworker with this number or name, in this order.
pub async fn admit(store: &Store, site: &Site, who: &str, at: WallTime) -> Result<AdmitAnswer, AdmitError> {
    let who = asked(who)?;
    let directories = DirectoryHistory::only(Arc::new(store.load_directory().await?));
    let directory = directories.latest();
    let (by, found) = match find(directory, who)? {
        AskedAbout::Device(_, found) => (CheckinSource::NetworkActivity, found),
        AskedAbout::Card(found) | AskedAbout::Person(found) => (CheckinSource::DoorAccess, found),
    };
    let answer = |coworker: Option<&Coworker>, verdict| AdmitAnswer {
        site: site.clone(),
        at,
        by,
        coworker: coworker.map(|coworker| (coworker.id, coworker.full_name.to_string())),
        verdict,
    };
    let refused = |reason| Verdict::Refused(Refused { reason, detail: None });
    let coworker = match (found, by) {
        (Match::One(coworker), _) => coworker,
        (Match::NoOne, CheckinSource::NetworkActivity) => {
            return Ok(answer(None, refused(Reason::UnrecognisedDevice)));
        }
        (Match::Several, CheckinSource::NetworkActivity) => return Ok(answer(None, refused(Reason::AmbiguousDevice))),
        (Match::NoOne, _) => return Ok(answer(None, refused(Reason::UnrecognisedCard))),
        (Match::Several, _) => return Ok(answer(None, refused(Reason::AmbiguousCard))),
    };
    let policies = PolicyHistory::only(SitePolicy { site: site.clone(), doors: Vec::new() });
    let verdict = match would_admit(store, (&directories, &policies), coworker, site, (at, by)).await? {
        WouldAdmit::In { from, .. } => Verdict::In(from),
        WouldAdmit::Admitted { pass: None, .. } => Verdict::Admitted(None),
        WouldAdmit::Admitted { pass: Some(used), charged, .. } => {
            Verdict::Admitted(Some(pass(directory, site, &charged, at, used)))
        }
        WouldAdmit::Refused(refused) => Verdict::Refused(refused),
        WouldAdmit::NotNow(Note::NetworkMayNotOpen) => {
            Verdict::NotByNetwork("the settings do not let the network open check-ins at this site")
        }
        WouldAdmit::NotNow(note) => Verdict::NotByNetwork(note.word()),
    };
    Ok(answer(Some(coworker), verdict))
}

fn pass(directory: &Directory, site: &Site, charged: &payg::Charged, at: WallTime, used: PassUse) -> UsablePass {
    let kind = directory.time_pass(used.time_pass);
    let rules = site.passes.pay_as_you_go.as_ref().filter(|_| used.kind == PassKind::PayAsYouGo);
    let first_charge = kind.zip(rules).map(|(kind, rules)| payg::charge(kind, rules, at, None, charged));
    UsablePass { name: kind.map_or_else(String::new, |kind| kind.name.to_string()), used, first_charge }
}

/// The answer as text.
pub fn text(answer: &AdmitAnswer) -> String {
    let AdmitAnswer { site, at, by, coworker, verdict } = answer;
    let face = |at: WallTime| calendar(site).local(at).format("%Y-%m-%d %H:%M").to_string();
    let mut text = String::new();
    if let Some((id, name)) = coworker {
        let by = word(*by);
        text = format!("{} (coworker {id}), by {by}, at {} on {}\n", plain(name), site.name, face(*at));
    }
    let said = match verdict {
        Verdict::In(since) => format!("already in, since {}: no further check is made", face(*since)),
        Verdict::Admitted(None) => "let in; this site does not require passes".to_owned(),
        Verdict::Admitted(Some(pass)) => format!("let in with {}", with(pass, &face)),
        Verdict::Refused(Refused { reason, detail }) => {
            format!("refused, {}", reason.description_with(detail.as_deref()))
        }
        Verdict::NotByNetwork(why) => format!("no check-in: {why}"),
    };
    let door = *by == CheckinSource::NetworkActivity
        && site.network_opens == NetworkOpens::AfterDoor
        && matches!(verdict, Verdict::Admitted(_));
    writeln!(text, "{}{}", plain(&said), if door { ", after a door has let them in that day" } else { "" })
        .expect("a String takes everything");
    text
}

fn with(pass: &UsablePass, face: &impl Fn(WallTime) -> String) -> String {
    let mut said = pass_name(pass.used.kind, &pass.name);
    if let Some(charge) = &pass.first_charge {
        let amount = money(charge.amount, charge.currency);
        write!(said, ", {amount} for the first {} min", charge.minutes).expect("a String takes everything");
    }
    if let Some((at, why)) = pass.used.ends {
        write!(said, ", until {} {}", face(at), pass_end(why)).expect("a String takes everything");
    }
    said
}

/// The answer as JSON.
pub fn json(answer: &AdmitAnswer) -> String {
    let AdmitAnswer { site, at, by, coworker, verdict } = answer;
    let time = |at: WallTime| at.to_rfc3339_seconds();
    let mut value = json!({
        "CoworkerId": coworker.as_ref().map(|(id, _)| id),
        "CoworkerFullName": coworker.as_ref().map(|(_, name)| name),
        "BusinessId": BusinessId(site.business.0),
        "At": time(*at),
        "Source": by.number(),
        "Admitted": matches!(verdict, Verdict::In(_) | Verdict::Admitted(_)),
        "InSince": null, "Code": null, "Description": null, "Pass": null,
    });
    match verdict {
        Verdict::In(since) => value["InSince"] = time(*since).into(),
        Verdict::Admitted(None) => {}
        Verdict::Admitted(Some(pass)) => value["Pass"] = pass_json(pass, &time),
        Verdict::Refused(Refused { reason, detail }) => {
            value["Code"] = reason.code().into();
            value["Description"] = reason.description_with(detail.as_deref()).into();
        }
        Verdict::NotByNetwork(why) => value["Description"] = (*why).into(),
    }
    pretty(&value)
}

fn pass_json(pass: &UsablePass, time: &impl Fn(WallTime) -> String) -> Value {
    let PassUse { guid, time_pass, kind, counts_towards_plan_limits, ends } = &pass.used;
    json!({
        "CoworkerTimePassGuid": guid.as_ref().map(Uuid::to_string),
        "TimePassId": time_pass,
        "TimePassName": pass.name,
        "Kind": kind.word(),
        "CountsTowardsPlanLimits": counts_towards_plan_limits,
        "Ends": ends.map(|(at, _)| time(at)),
        "EndsBecause": ends.map(|(_, why)| why.word()),
        "FirstCharge": pass.first_charge.map(|charge| json!({
            "Minutes": charge.minutes, "Amount": charge.amount, "Currency": charge.currency.to_string(),
        })),
    })
}

fn word(by: CheckinSource) -> &'static str {
    if by == CheckinSource::NetworkActivity { "network" } else { "door" }
}

fn calendar(site: &Site) -> Calendar {
    Calendar { zone: site.time_zone.clone(), cut_off: site.cut_off }
}
