//! PURE. The keys of each section, with their values as written. Any key may be absent.
//!
//! Never here: which keys are required and how they interact (`settings::validate`), and how a value is read
//! (`settings::value`).

use std::{path::PathBuf, time::Duration};

use chrono::{NaiveTime, Weekday};
use config::{Map, Value};
use url::Url;

use crate::{
    base::record::BusinessId,
    directory::catalogue::Currency,
    policy::{
        door::DoorAction,
        passes::PassesAsked,
        site::{NetworkOpens, UnrecognisedDevices},
    },
    settings::{
        capture::{CaptureBackend, MacPattern, Relays},
        origin::ValueOrigin,
        reader::{Given, SectionReader},
        report::{Finding, Span},
        sections::{ListenAddress, MappedRight, TlsMode, WebOrigin},
        url::{BrokerUrl, DatabaseUrl, PlatformUrl, broker_url, database_url, keys_url, platform_url, web_origin},
        value::{
            amount, boolean, business, client_id, currency, interface, kept_span, list, listen, mac_pattern,
            mapped_role, path, relays, size, span, span_or_none, text, time_of_day, time_zone, vlans, whole_minutes,
            word,
        },
    },
};

/// Declares the sections that occur once. For a new one, add a row here, and a type with a function `read`.
macro_rules! sections {
    ($($name:ident: $written:ty,)+) => {
        /// The sections that occur once, `[section]`; later layers override their keys one by one.
        pub(super) const SECTIONS: [&str; [$(stringify!($name)),+].len()] = [$(stringify!($name)),+];

        /// The sections as written, in one fragment or in all layers together.
        #[derive(Debug, Default)]
        pub(super) struct WrittenSections {
            $(pub(super) $name: $written,)+
        }

        impl WrittenSections {
            /// Reads the sections. Faults of single values go to `findings`.
            pub(super) fn read(sections: &Map<String, Value>, findings: &mut Vec<Finding>) -> Self {
                let mut written = Self::default();
                $(
                    if let Some(value) = sections.get(stringify!($name)) {
                        let label = concat!("[", stringify!($name), "]");
                        let place = ValueOrigin::of(value).key;
                        written.$name = <$written>::read(SectionReader::open(label, place, value, findings));
                    }
                )+
                written
            }
        }
    };
}

sections! {
    database: DatabaseWritten,
    spool: SpoolWritten,
    site: SiteWritten,
    pay_as_you_go: PayAsYouGoWritten,
    lease: LeaseWritten,
    mqtt: MqttWritten,
    api: ApiWritten,
    sync: SyncWritten,
    jwt: JwtWritten,
    retention: RetentionWritten,
}

/// `[database]`.
#[derive(Debug, Default)]
pub(super) struct DatabaseWritten {
    pub(super) url: Given<DatabaseUrl>,
    pub(super) password_file: Given<PathBuf>,
    pub(super) tls: Given<TlsMode>,
    pub(super) protected_by: Given<String>,
    pub(super) ca_file: Given<PathBuf>,
    pub(super) cert_file: Given<PathBuf>,
    pub(super) key_file: Given<PathBuf>,
}

impl DatabaseWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            url: table.take("url", database_url),
            password_file: table.take("password_file", path),
            tls: table.take("tls", |value| word(value, &TlsMode::WORDS)),
            protected_by: table.take("protected_by", text),
            ca_file: table.take("ca_file", path),
            cert_file: table.take("cert_file", path),
            key_file: table.take("key_file", path),
        };
        table.close();
        read
    }
}

/// `[spool]`.
#[derive(Debug, Default)]
pub(super) struct SpoolWritten {
    pub(super) path: Given<PathBuf>,
    /// Bytes.
    pub(super) limit: Given<u64>,
    pub(super) keep: Given<Duration>,
}

impl SpoolWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            path: table.take("path", path),
            limit: table.take("limit", size),
            keep: table.take("keep", kept_span),
        };
        table.close();
        read
    }
}

/// `[site]`.
#[derive(Debug, Default)]
pub(super) struct SiteWritten {
    pub(super) business: Given<BusinessId>,
    pub(super) name: Given<String>,
    pub(super) time_zone: Given<String>,
    pub(super) cut_off: Given<NaiveTime>,
    pub(super) idle_limit: Given<Duration>,
    pub(super) record_every_visit: Given<bool>,
    pub(super) minimum_dwell: Given<Duration>,
    pub(super) linger: Given<Duration>,
    pub(super) network_opens: Given<NetworkOpens>,
    pub(super) unrecognised_devices: Given<UnrecognisedDevices>,
    pub(super) network_checkins: Given<bool>,
    pub(super) debounce: Given<Duration>,
    pub(super) toggle_minimum_stay: Given<Duration>,
    pub(super) passes: Given<PassesAsked>,
    pub(super) week_starts_on: Given<Weekday>,
}

impl SiteWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            business: table.take("business", business),
            name: table.take("name", text),
            time_zone: table.take("time_zone", time_zone),
            cut_off: table.take("cut_off", time_of_day),
            idle_limit: table.take("idle_limit", span),
            record_every_visit: table.take("record_every_visit", boolean),
            minimum_dwell: table.take("minimum_dwell", span_or_none),
            linger: table.take("linger", span),
            network_opens: table.take("network_opens", |value| word(value, &NETWORK_OPENS)),
            unrecognised_devices: table.take("unrecognised_devices", |value| word(value, &UNRECOGNISED_DEVICES)),
            network_checkins: table.take("network_checkins", boolean),
            debounce: table.take("debounce", span),
            toggle_minimum_stay: table.take("toggle_minimum_stay", span),
            passes: table.take("passes", |value| word(value, &PASSES)),
            week_starts_on: table.take("week_starts_on", |value| word(value, &WEEKDAYS)),
        };
        table.close();
        read
    }
}

const NETWORK_OPENS: [(&str, NetworkOpens); 3] =
    [("always", NetworkOpens::Always), ("after-door", NetworkOpens::AfterDoor), ("never", NetworkOpens::Never)];

const UNRECOGNISED_DEVICES: [(&str, UnrecognisedDevices); 3] = [
    ("all", UnrecognisedDevices::All),
    ("global-only", UnrecognisedDevices::GlobalOnly),
    ("off", UnrecognisedDevices::Off),
];

const PASSES: [(&str, PassesAsked); 3] =
    [("if-any", PassesAsked::IfAny), ("required", PassesAsked::Required), ("off", PassesAsked::Off)];

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Mon),
    ("tuesday", Weekday::Tue),
    ("wednesday", Weekday::Wed),
    ("thursday", Weekday::Thu),
    ("friday", Weekday::Fri),
    ("saturday", Weekday::Sat),
    ("sunday", Weekday::Sun),
];

/// `[pay_as_you_go]`.
#[derive(Debug, Default)]
pub(super) struct PayAsYouGoWritten {
    pub(super) enabled: Given<bool>,
    pub(super) currency: Given<Currency>,
    pub(super) minimum: Given<i64>,
    /// 0 for none.
    pub(super) maximum: Given<i64>,
    pub(super) step: Given<Duration>,
}

impl PayAsYouGoWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            enabled: table.take("enabled", boolean),
            currency: table.take("currency", currency),
            minimum: table.take("minimum", amount),
            maximum: table.take("maximum", amount),
            step: table.take("step", whole_minutes),
        };
        table.close();
        read
    }
}

/// `[lease]`.
#[derive(Debug, Default)]
pub(super) struct LeaseWritten {
    pub(super) holder: Given<String>,
}

impl LeaseWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self { holder: table.take("holder", text) };
        table.close();
        read
    }
}

/// `[mqtt]`.
#[derive(Debug, Default)]
pub(super) struct MqttWritten {
    pub(super) url: Given<BrokerUrl>,
    pub(super) client_id: Given<String>,
    pub(super) username: Given<String>,
    pub(super) password_file: Given<PathBuf>,
    pub(super) ca_file: Given<PathBuf>,
    pub(super) cert_file: Given<PathBuf>,
    pub(super) key_file: Given<PathBuf>,
    pub(super) protected_by: Given<String>,
}

impl MqttWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            url: table.take("url", broker_url),
            client_id: table.take("client_id", client_id),
            username: table.take("username", text),
            password_file: table.take("password_file", path),
            ca_file: table.take("ca_file", path),
            cert_file: table.take("cert_file", path),
            key_file: table.take("key_file", path),
            protected_by: table.take("protected_by", text),
        };
        table.close();
        read
    }
}

/// `[api]`.
#[derive(Debug, Default)]
pub(super) struct ApiWritten {
    /// `None` for `off`.
    pub(super) listen: Given<Option<ListenAddress>>,
    pub(super) tls_cert_file: Given<PathBuf>,
    pub(super) tls_key_file: Given<PathBuf>,
    pub(super) protected_by: Given<String>,
    pub(super) cors_origins: Given<Vec<WebOrigin>>,
}

impl ApiWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            listen: table.take("listen", listen),
            tls_cert_file: table.take("tls_cert_file", path),
            tls_key_file: table.take("tls_key_file", path),
            protected_by: table.take("protected_by", text),
            cors_origins: table.take("cors_origins", |value| list(value, web_origin)),
        };
        table.close();
        read
    }
}

/// `[sync]`.
#[derive(Debug, Default)]
pub(super) struct SyncWritten {
    pub(super) url: Given<PlatformUrl>,
    pub(super) token_file: Given<PathBuf>,
    pub(super) username: Given<String>,
    pub(super) password_file: Given<PathBuf>,
    pub(super) every: Given<Duration>,
    pub(super) ca_file: Given<PathBuf>,
    pub(super) protected_by: Given<String>,
}

impl SyncWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            url: table.take("url", platform_url),
            token_file: table.take("token_file", path),
            username: table.take("username", text),
            password_file: table.take("password_file", path),
            every: table.take("every", span),
            ca_file: table.take("ca_file", path),
            protected_by: table.take("protected_by", text),
        };
        table.close();
        read
    }
}

/// `[jwt]`.
#[derive(Debug, Default)]
pub(super) struct JwtWritten {
    pub(super) issuer: Given<String>,
    pub(super) audience: Given<String>,
    pub(super) jwks_file: Given<PathBuf>,
    pub(super) jwks_url: Given<Url>,
    pub(super) name_claim: Given<String>,
    pub(super) roles_claim: Given<String>,
    pub(super) roles: Given<Vec<(String, MappedRight)>>,
    pub(super) businesses_claim: Given<String>,
}

impl JwtWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            issuer: table.take("issuer", text),
            audience: table.take("audience", text),
            jwks_file: table.take("jwks_file", path),
            jwks_url: table.take("jwks_url", keys_url),
            name_claim: table.take("name_claim", text),
            roles_claim: table.take("roles_claim", text),
            roles: table.take("roles", |value| list(value, mapped_role)),
            businesses_claim: table.take("businesses_claim", text),
        };
        table.close();
        read
    }
}

/// `[retention]`; zero means forever.
#[derive(Debug, Default)]
pub(super) struct RetentionWritten {
    pub(super) sightings: Given<Duration>,
    pub(super) checkins: Given<Duration>,
    pub(super) failed_checkins: Given<Duration>,
    pub(super) unrecognised: Given<Duration>,
}

impl RetentionWritten {
    fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            sightings: table.take("sightings", span_or_none),
            checkins: table.take("checkins", span_or_none),
            failed_checkins: table.take("failed_checkins", span_or_none),
            unrecognised: table.take("unrecognised", span_or_none),
        };
        table.close();
        read
    }
}

/// One `[[door]]`.
#[derive(Debug)]
pub(super) struct DoorWritten {
    pub(super) place: Span,
    pub(super) pattern: Given<String>,
    pub(super) name: Given<String>,
    pub(super) on_in: Given<DoorAction>,
    pub(super) on_out: Given<DoorAction>,
}

impl DoorWritten {
    pub(super) fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            place: table.place,
            pattern: table.take("match", text),
            name: table.take("name", text),
            on_in: table.take("on_in", |value| word(value, &DOOR_ACTIONS)),
            on_out: table.take("on_out", |value| word(value, &DOOR_ACTIONS)),
        };
        table.close();
        read
    }
}

const DOOR_ACTIONS: [(&str, DoorAction); 5] = [
    ("check_in", DoorAction::CheckIn),
    ("check_out", DoorAction::CheckOut),
    ("toggle", DoorAction::Toggle),
    ("activity", DoorAction::Activity),
    ("record", DoorAction::Record),
];

/// One `[[capture]]`.
#[derive(Debug)]
pub(super) struct CaptureWritten {
    pub(super) place: Span,
    pub(super) interface: Given<String>,
    pub(super) vlans: Given<Vec<u16>>,
    pub(super) ignore: Given<Vec<MacPattern>>,
    pub(super) relays: Given<Relays>,
    pub(super) backend: Given<CaptureBackend>,
}

impl CaptureWritten {
    pub(super) fn read(mut table: SectionReader<'_>) -> Self {
        let read = Self {
            place: table.place,
            interface: table.take("interface", interface),
            vlans: table.take("vlans", vlans),
            ignore: table.take("ignore", |value| list(value, mac_pattern)),
            relays: table.take("relays", relays),
            backend: table.take("backend", |value| word(value, &BACKENDS)),
        };
        table.close();
        read
    }
}

const BACKENDS: [(&str, CaptureBackend); 2] = [("ring", CaptureBackend::Ring), ("portable", CaptureBackend::Portable)];
