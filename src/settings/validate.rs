//! Turns the merged layers into [`Settings`]: checks which keys are required and which exclude each other, and warns
//! about those that are allowed but probably a mistake.
//!
//! Never here: single values (`settings::value`), and reading secrets and certificates (`settings::secrets`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;

use crate::{
    base::zone::Zone,
    mapping::Mapping,
    policy::{
        door::{Door, DoorAction},
        passes::{PassPolicy, PayAsYouGo},
        site::{NetworkOpens, Site},
    },
    settings::{
        advice::nearest,
        capture::{Capture, CaptureBackend, Relays},
        fragment::SourceWritten,
        merge::Merged,
        reader::{Given, short},
        report::{Finding, Origins, Show, Span},
        secrets::{PemKind, SecretFile, Secrets},
        sections::{Database, LeaseSettings, Retention, Settings, SpoolSettings},
        written::{
            CaptureWritten, DoorWritten, LeaseWritten, PayAsYouGoWritten, RetentionWritten, SiteWritten, SpoolWritten,
        },
        zones::Zones,
    },
};

/// How many each of `[[source]]`, `[[door]]` and `[[capture]]` there may be; more is a fault. Ten times the largest
/// site. There is a limit because every tap searches the doors.
const MOST_ENTRIES: usize = 1000;

/// Builds the settings. `None` if there is any fault, including those found earlier.
pub(super) fn validate(
    merged: Merged,
    (secrets, zones): (&Secrets<'_>, Zones),
    origins: &Origins,
    findings: &mut Vec<Finding>,
    warnings: &mut Vec<Finding>,
) -> Option<Settings> {
    let Merged { written, headers, sources, doors, captures, torn } = merged;
    let mut check = Check { secrets, zones: &zones, origins, findings, warnings, headers: &headers, torn };
    // If a list is too long, do not search it for further faults.
    for (list, count) in [("source", sources.len()), ("door", doors.len()), ("capture", captures.len())] {
        if count > MOST_ENTRIES {
            let message = format!("there are {count} [[{list}]] sections; the most is {MOST_ENTRIES}");
            check.findings.push(Finding { place: Span::SHIPPED, show: Show::Nothing, key: String::new(), message });
            return None;
        }
    }
    // Check every section, to report all faults at once.
    check.needs(&sources, &doors, &captures);
    check.probable_mistakes(&written.site, &sources, &doors, &captures);
    let database = check.database(written.database);
    let site = check.site(written.site, written.pay_as_you_go);
    let spool = check.spool(written.spool, database.as_ref(), site.is_some());
    let lease = check.lease(written.lease);
    let mqtt = check.mqtt(written.mqtt, site.as_ref());
    let sources = check.sources(sources, site.as_ref());
    let doors = check.doors(doors);
    let captures = check.captures(captures);
    let is_off = matches!(written.api.listen, Given::Good(None, _));
    let api = check.api(written.api);
    let sync = check.sync(written.sync);
    let jwt = check.jwt(written.jwt, is_off).map(Box::new);
    let retention = retention(written.retention);
    if !check.findings.is_empty() {
        return None;
    }
    let retention = retention?;
    Some(Settings {
        zones,
        database: database?,
        spool,
        site,
        lease,
        mqtt,
        sources,
        doors,
        captures,
        api,
        sync,
        jwt,
        retention,
    })
}

fn retention(written: RetentionWritten) -> Option<Retention> {
    let span = |given: Given<Duration>| given.good().map(|span| (!span.is_zero()).then_some(span));
    Some(Retention {
        sightings: span(written.sightings)?,
        checkins: span(written.checkins)?,
        failed_checkins: span(written.failed_checkins)?,
        unrecognised: span(written.unrecognised)?,
    })
}

/// The validation of one configuration.
pub(super) struct Check<'c> {
    secrets: &'c Secrets<'c>,
    zones: &'c Zones,
    origins: &'c Origins,
    findings: &'c mut Vec<Finding>,
    warnings: &'c mut Vec<Finding>,
    pub(super) headers: &'c BTreeMap<String, Span>,
    torn: bool,
}

impl Check<'_> {
    /// Checks that sections that depend on another section have it.
    fn needs(&mut self, sources: &[SourceWritten], doors: &[DoorWritten], captures: &[CaptureWritten]) {
        let (mqtt, site) = (self.headers.contains_key("mqtt"), self.headers.contains_key("site"));
        let firsts = [
            ("[[source]]", sources.first().map(|source| source.place)),
            ("[[capture]]", captures.first().map(|capture| capture.place)),
        ];
        for (section, first) in firsts {
            let Some(place) = first else { continue };
            if !site {
                self.missing(place, section, "needs a [site] section with business, name and time_zone");
            }
            if section == "[[source]]" && !mqtt {
                self.missing(place, section, "needs an [mqtt] section with the url of the broker");
            }
        }
        if let (true, Some(door)) = (sources.is_empty(), doors.first()) {
            let message = "is never used: there is no [[source]] to report taps at doors";
            self.warn(door.place, "[[door]]", message);
        }
    }

    /// Warns about settings that are allowed but probably a mistake.
    fn probable_mistakes(
        &mut self,
        site: &SiteWritten,
        sources: &[SourceWritten],
        doors: &[DoorWritten],
        captures: &[CaptureWritten],
    ) {
        if let Given::Good(NetworkOpens::AfterDoor, place) = site.network_opens
            && sources.is_empty()
        {
            let message = "is \"after-door\" without a [[source]], so the network will never open a check-in";
            self.warn(place, "network_opens", message);
        }
        if let (Some(place), false) = (self.headers.get("pay_as_you_go"), self.headers.contains_key("site")) {
            self.warn(*place, "pay_as_you_go", "is never used: there is no [site]");
        }
        if let (Given::Good(false, place), false) = (&site.network_checkins, captures.is_empty()) {
            self.warn(*place, "network_checkins", "is false, so no [[capture]] will check anyone in");
        }
        let toggles = doors.iter().any(|door| {
            [&door.on_in, &door.on_out].iter().any(|action| matches!(action, Given::Good(DoorAction::Toggle, _)))
        });
        if let (Some(place), false) = (site.toggle_minimum_stay.place(), toggles) {
            self.warn(place, "toggle_minimum_stay", "is never used: no [[door]] has \"toggle\"");
        }
    }

    /// The spool, if this instance has one.
    fn spool(&mut self, written: SpoolWritten, database: Option<&Database>, site: bool) -> Option<SpoolSettings> {
        let SpoolWritten { path, limit, keep } = written;
        let places = [("path", path.place()), ("limit", limit.place()), ("keep", keep.place())];
        match (database?, site) {
            (Database::Postgres { .. }, true) => {
                Some(SpoolSettings { path: path.good()?, limit: limit.good()?, keep: keep.good()? })
            }
            (Database::Sqlite { .. }, _) | (Database::Postgres { .. }, false) => {
                for (key, place) in places {
                    if let Some(place) = place {
                        let message = "is never used: only a site with a PostgreSQL database keeps a spool";
                        self.warn(place, key, message);
                    }
                }
                None
            }
        }
    }

    fn site(&mut self, written: SiteWritten, pay_as_you_go: PayAsYouGoWritten) -> Option<Site> {
        let pay_as_you_go = self.pay_as_you_go(pay_as_you_go);
        let place = self.headers.get("site").copied()?;
        let business = self.required(place, "[site]", "business", written.business);
        let name = self.required(place, "[site]", "name", written.name);
        let time_zone = self.time_zone(place, written.time_zone);
        Some(Site {
            business: business?,
            name: name?,
            time_zone: time_zone?,
            cut_off: written.cut_off.good()?,
            idle_limit: written.idle_limit.good()?,
            record_every_visit: written.record_every_visit.good()?,
            minimum_dwell: written.minimum_dwell.good()?,
            linger: written.linger.good()?,
            network_opens: written.network_opens.good()?,
            unrecognised_devices: written.unrecognised_devices.good()?,
            network_checkins: written.network_checkins.good()?,
            debounce: written.debounce.good()?,
            toggle_minimum_stay: written.toggle_minimum_stay.good()?,
            passes: PassPolicy {
                asked: written.passes.good()?,
                week_starts_on: written.week_starts_on.good()?,
                pay_as_you_go: pay_as_you_go?,
            },
        })
    }

    /// The inner option is `None` if pay-as-you-go is switched off.
    #[expect(clippy::option_option, reason = "the outer one says whether the keys are good, as everywhere here")]
    fn pay_as_you_go(&mut self, written: PayAsYouGoWritten) -> Option<Option<PayAsYouGo>> {
        let place = written.maximum.place().or(written.minimum.place());
        let rules = PayAsYouGo {
            currency: written.currency.good()?,
            minimum: written.minimum.good()?,
            maximum: written.maximum.good().map(|maximum| (maximum > 0).then_some(maximum))?,
            step: written.step.good()?,
        };
        if let (Some(maximum), Some(place)) = (rules.maximum, place)
            && maximum < rules.minimum
        {
            let message = format!("is less than minimum ({}); write 0 for no maximum", rules.minimum);
            self.fault(place, "maximum", message);
        }
        Some(written.enabled.good()?.then_some(rules))
    }

    fn lease(&mut self, written: LeaseWritten) -> Option<LeaseSettings> {
        let place = self.headers.get("lease").copied()?;
        if !self.headers.contains_key("site") {
            self.missing(place, "[lease]", "needs a [site] section: two gateways share the lease of a site");
        }
        self.required(place, "[lease]", "holder", written.holder).map(|holder| LeaseSettings { holder })
    }

    fn time_zone(&mut self, section: Span, written: Given<String>) -> Option<Zone> {
        let place = written.place().unwrap_or(section);
        let name = self.required(section, "[site]", "time_zone", written)?;
        let found = self.zones.find(&name);
        if found.is_none() {
            let names = self.zones.names();
            let advice = nearest(&name, names.iter().map(String::as_str))
                .map_or("write for example \"Europe/London\"".to_owned(), |near| format!("did you mean \"{near}\"?"));
            let message = format!("\"{}\" is not in the time zone data of this system; {advice}", short(&name));
            self.fault(place, "time_zone", message);
        }
        found
    }

    fn sources(&mut self, written: Vec<SourceWritten>, site: Option<&Site>) -> Vec<Arc<Mapping>> {
        let mut seen: BTreeMap<Arc<str>, Span> = BTreeMap::new();
        let mut sources = Vec::new();
        let local = site.map(|site| (&site.time_zone, site.debounce));
        for SourceWritten { name: place, mapping, .. } in written {
            let Some(mapping) = mapping else { continue };
            if mapping.name.trim().is_empty() {
                self.fault(place, "name", "is empty; a source needs a name");
            } else if let Some(first) = seen.insert(mapping.name.clone(), place) {
                let message = format!(
                    "\"{}\" is already the name of the source at {}",
                    mapping.name,
                    self.origins.describe(first)
                );
                self.fault(place, "name", message);
            }
            sources.push(Arc::new(match local {
                Some((zone, debounce)) => mapping.in_zone(|name| self.zones.find(name)).at_site(zone, debounce),
                None => mapping,
            }));
        }
        sources
    }

    fn doors(&mut self, written: Vec<DoorWritten>) -> Vec<Door> {
        let mut doors: Vec<(Door, Span)> = Vec::new();
        for DoorWritten { place, pattern, name, on_in, on_out } in written {
            let at = pattern.place().unwrap_or(place);
            let Some(pattern) = self.required(place, "[[door]]", "match", pattern) else { continue };
            // Only `*` matches `*`, so if an earlier pattern matches the text of this pattern, it matches all of its
            // doors.
            if let Some((_, earlier)) = doors.iter().find(|(door, _)| door.matches(&pattern)) {
                let message = format!(
                    "is never reached: the first match counts, and the pattern at {} matches all of these doors",
                    self.origins.describe(*earlier)
                );
                self.fault(at, "match", message);
            }
            let door = Door {
                name: name.good().unwrap_or_else(|| pattern.clone()),
                pattern,
                on_in: on_in.good().unwrap_or(DoorAction::CheckIn),
                on_out: on_out.good().unwrap_or(DoorAction::CheckOut),
            };
            doors.push((door, at));
        }
        doors.into_iter().map(|(door, _)| door).collect()
    }

    fn captures(&mut self, written: Vec<CaptureWritten>) -> Vec<Capture> {
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        let mut captures = Vec::new();
        for CaptureWritten { place, interface, vlans, ignore, relays, backend } in written {
            let at = interface.place().unwrap_or(place);
            let Some(interface) = self.required(place, "[[capture]]", "interface", interface) else { continue };
            if let Some(first) = seen.insert(interface.clone(), at) {
                let message = format!(
                    "\"{interface}\" is already captured, at {}; put all its VLANs in one list",
                    self.origins.describe(first)
                );
                self.fault(at, "interface", message);
            }
            if let (Given::Good(CaptureBackend::Portable, at), Given::Good(limited, _)) = (&backend, &vlans)
                && !limited.is_empty()
            {
                let message =
                    "\"portable\" cannot be combined with vlans, because it loses the VLAN tag; remove one of the two";
                self.fault(*at, "backend", message);
            }
            captures.push(Capture {
                interface: interface.into(),
                vlans: vlans.good().unwrap_or_default(),
                ignore: ignore.good().unwrap_or_default(),
                relays: relays.good().unwrap_or(Relays::Any),
                backend: backend.good().unwrap_or(CaptureBackend::Ring),
            });
        }
        captures
    }

    /// Reads the password in a file.
    pub(super) fn secret(&mut self, key: &'static str, file: Given<PathBuf>) -> Option<SecretString> {
        let Given::Good(written, place) = file else { return None };
        let file = self.read(key, &written, place)?;
        self.warn_if_world_readable(&file, key, place);
        match file.password() {
            Ok(password) => Some(password),
            Err(message) => {
                self.fault(place, key, message);
                None
            }
        }
    }

    /// Checks a certificate or key file, and returns its path. It is read again for each connection.
    pub(super) fn pem(&mut self, key: &'static str, file: Given<PathBuf>, kind: PemKind) -> Option<PathBuf> {
        let Given::Good(written, place) = file else { return None };
        let file = self.read(key, &written, place)?;
        if kind == PemKind::PrivateKey {
            self.warn_if_world_readable(&file, key, place);
        }
        if let Err(message) = file.check_pem(kind) {
            self.fault(place, key, message);
        }
        Some(file.path)
    }

    pub(super) fn read(&mut self, key: &str, written: &Path, place: Span) -> Option<SecretFile> {
        match self.secrets.read(written) {
            Ok(file) => Some(file),
            Err(message) => {
                self.fault(place, key, message);
                None
            }
        }
    }

    fn warn_if_world_readable(&mut self, file: &SecretFile, key: &str, place: Span) {
        if file.is_world_readable() {
            let message =
                format!("{} is readable by every user of this machine; run chmod o-r on it", file.path.display());
            self.warn(place, key, message);
        }
    }

    pub(super) fn required<T>(&mut self, section: Span, label: &str, key: &str, given: Given<T>) -> Option<T> {
        if given.is_absent() {
            self.missing(section, label, format!("{key} is missing"));
        }
        given.good()
    }

    /// Reports that something is missing, unless part of the text could not be read and it may be there.
    pub(super) fn missing(&mut self, place: Span, key: &str, message: impl Into<String>) {
        if !self.torn {
            self.fault(place, key, message);
        }
    }

    pub(super) fn fault(&mut self, place: Span, key: &str, message: impl Into<String>) {
        self.findings.push(Finding { place, show: Show::Line, key: key.to_owned(), message: message.into() });
    }

    pub(super) fn warn(&mut self, place: Span, key: &str, message: impl Into<String>) {
        self.warnings.push(Finding { place, show: Show::Line, key: key.to_owned(), message: message.into() });
    }
}
