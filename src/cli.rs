//! The commands: turns arguments into library calls, and errors into exit codes (sysexits.h: 64 usage, 65 data,
//! 69 unavailable, 70 software, 74 input, 77 permission, 78 configuration).

mod account;
pub mod admit;
mod arguments;
pub mod capture_file;
pub mod explain;
pub mod import;
mod log;
mod lookup;
mod maintenance;
mod print;
mod progress;
pub mod replay;
mod service_account;
pub mod user;
pub mod user_token;
pub mod who;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "demo")]
use self::arguments::DemoArguments;
use self::{
    account::{AccountError, Keep},
    arguments::{
        AdmitArguments, Arguments, Command, ExplainArguments, ImportArguments, MigrateArguments, ReplaceWord, Replay,
        TokenArguments, TokenCommand, UserCommand, within,
    },
    log::{Urgency, complain, log_to_stderr},
    service_account::ServiceAccount,
};
use crate::{
    access::TokenLimits,
    base::{
        clock::{Clock, WallTime},
        plain::plain,
    },
    daemon::{Prepared, SettingsOrigin, Supervisor, lease::LeaseError},
    directory::import::draft::Replace,
    settings::{self, LoadedSettings, Settings, SettingsFaults, StoredCredentials},
    source::network::CaptureError,
    store::{BackupError, CopyFirst, MaintainError, Store, StoreError},
};

/// Worker threads of the runtime: one for the pipeline, one for API requests.
const WORKERS: usize = 2;

/// How often a command reads again because a daemon began to write meanwhile. It begins once.
const READINGS: u32 = 3;

/// Why the program fails, with its exit code.
#[derive(Debug)]
enum Failure {
    /// Faults in the settings: 78.
    Settings(SettingsFaults),
    /// Printed or logged already; only the exit code is left.
    Reported(u8),
    /// Another exit code, and the error.
    Other(u8, anyhow::Error),
}

const USAGE: u8 = 64;
const DATA: u8 = 65;
const UNAVAILABLE: u8 = 69;
const SOFTWARE: u8 = 70;
const INPUT: u8 = 74;
const PERMISSION: u8 = 77;
const CONFIGURATION: u8 = 78;

/// Runs the program with these arguments; the first is the program's name.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(said) => {
            let code = if said.use_stderr() { USAGE } else { 0 };
            return said.print().map_or(ExitCode::from(INPUT), |()| ExitCode::from(code));
        }
    };
    let is_root = rustix::process::geteuid().is_root();
    let done = run(arguments);
    let user = rustix::process::geteuid();
    if is_root && !user.is_root() && done.is_err() {
        let user = user.as_raw();
        complain(
            Urgency::Fault,
            &format!("checkind: root ran this as user {user}, who owns the folder of the database, and it failed"),
        );
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Settings(faults)) => {
            complain(Urgency::Fault, &faults.to_string());
            ExitCode::from(CONFIGURATION)
        }
        Err(Failure::Reported(code)) => ExitCode::from(code),
        Err(Failure::Other(_, error)) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(Failure::Other(code, error)) => {
            complain(Urgency::Fault, &format!("checkind: {}", causes(&error)));
            ExitCode::from(code)
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.config;
    match arguments.command {
        Command::Run => daemon(config),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo(config.as_deref(), &arguments),
        Command::CheckConfig => check_config(config.as_deref()),
        Command::Import(arguments) => import_files(config.as_deref(), &arguments),
        Command::Backup { file } => backup(config.as_deref(), &file),
        Command::Migrate(arguments) => migrate(config.as_deref(), &arguments),
        Command::Maintain { json } => maintain(config.as_deref(), json),
        Command::Who { json } => who_is_in(config.as_deref(), json),
        Command::Admit(arguments) => would_be_admitted(config.as_deref(), &arguments),
        Command::Explain(arguments) => explain_decisions(config.as_deref(), &arguments),
        Command::Replay(Replay { files, frames: _ }) => {
            replay::print_frames(&files, &mut io::stdout().lock()).map_err(|error| Failure::Other(DATA, error.into()))
        }
        Command::User(command) => users(config.as_deref(), command),
    }
}

fn daemon(config: Option<PathBuf>) -> Result<(), Failure> {
    let LoadedSettings { settings, warnings } =
        settings::load(config.as_deref(), settings::environment()).map_err(Failure::Settings)?;
    // Without warnings of the database library (a lost connection, a statement that waited for a lock): checkind
    // reports them once, as the condition that they cause.
    let _last_summaries = log_to_stderr("info,sqlx=error");
    for warning in &warnings {
        tracing::warn!("{}", warning.head());
    }
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, "checkind is starting");
    tracing::info!(source = settings.zones.source(), version = settings.zones.version(), "time zone data");
    let keep = if settings.captures.is_empty() { Keep::Nothing } else { Keep::Captures };
    if let Some((_, file)) = settings.data_file() {
        account::become_owner(file, keep).map_err(not_permitted)?;
    }
    let prepared = Prepared::open(&settings, Clock::system()).map_err(|error| match error {
        CaptureError::NotPermitted(_) => logged(PERMISSION, &error.into()),
        CaptureError::Failed { .. } | CaptureError::PipelineGone(_) => logged(UNAVAILABLE, &error.into()),
    })?;
    let supervisor = Supervisor::new(settings, SettingsOrigin::File(config), &prepared);
    let stop = CancellationToken::new();
    runtime()?.block_on(Box::pin(supervisor.run(prepared, stop, |_| {}))).map_err(|error| {
        let unavailable =
            error.chain().any(|cause| cause.is::<StoreError>() || cause.is::<io::Error>() || cause.is::<LeaseError>());
        logged(if unavailable { UNAVAILABLE } else { SOFTWARE }, &error)
    })
}

/// Logs why the daemon ends, so it has the form and the priority of its other lines.
fn logged(code: u8, error: &anyhow::Error) -> Failure {
    tracing::error!("{}", causes(error));
    Failure::Reported(code)
}

#[cfg(feature = "demo")]
fn demo(config: Option<&Path>, arguments: &DemoArguments) -> Result<(), Failure> {
    if config.is_some() {
        return Err(Failure::Other(
            USAGE,
            anyhow::anyhow!("the demo writes its own configuration; do not pass --config"),
        ));
    }
    let _last_summaries = log_to_stderr("off,checkind=warn");
    let minutes = arguments.minutes.unwrap_or(1);
    let options = crate::demo::DemoOptions {
        length: std::time::Duration::from_secs(arguments.seconds.unwrap_or(minutes * 60)),
        stay: arguments.stay || std::io::IsTerminal::is_terminal(&io::stdout()),
    };
    runtime()?.block_on(Box::pin(crate::demo::run(options))).map_err(|error| Failure::Other(UNAVAILABLE, error))
}

fn check_config(config: Option<&Path>) -> Result<(), Failure> {
    let LoadedSettings { settings, warnings } =
        settings::load(config, settings::environment()).map_err(Failure::Settings)?;
    for warning in &warnings {
        complain(Urgency::Warning, &warning.to_string());
    }
    if let Some(account) = ServiceAccount::find(&settings) {
        check_as(&account, config, &settings)?;
    }
    say(&settings::summary(&settings))
}

/// Root can read everything, so this checks again as the account of the service.
fn check_as(account: &ServiceAccount, config: Option<&Path>, settings: &Settings) -> Result<(), Failure> {
    // systemd reads these as root and passes them to the service.
    let credentials = StoredCredentials::read();
    if let Err(error) = account.enter() {
        let name = &account.name;
        complain(Urgency::Warning, &format!("warning: not checked as {name}, the account of the service: {error}"));
        return Ok(());
    }
    let unreadable = settings::load_with(config, settings::environment(), &credentials).err();
    let unwritable = service_account::unwritable(settings);
    if unreadable.is_none() && unwritable.is_empty() {
        return Ok(());
    }
    for fault in unreadable.iter().map(ToString::to_string).chain(unwritable) {
        complain(Urgency::Fault, &fault);
    }
    let name = &account.name;
    let advice = format!(
        "checkind: root may use these files, but the service runs as {name}. Let it read what it reads (chgrp {name} FILE; \
         chmod 640 FILE; chmod 755 for a folder), own what it writes (chown -h {name}), or pass it a secret with LoadCredential="
    );
    complain(Urgency::Fault, &advice);
    Err(Failure::Reported(CONFIGURATION))
}

fn import_files(config: Option<&Path>, arguments: &ImportArguments) -> Result<(), Failure> {
    let settings = load(config)?;
    let ImportArguments { files, dry_run, replace, json } = arguments;
    // Root may read files that the owner of the database cannot.
    let opened = import::open_files(files).map_err(|error| Failure::Other(import_code(&error), error.into()))?;
    become_owner(&settings)?;
    let replace = match replace {
        None => Replace::No,
        Some(ReplaceWord::Tenth) => Replace::Tenth,
        Some(ReplaceWord::All) => Replace::All,
    };
    let options = import::ImportOptions { files: opened, replace };
    let failed = |error: import::ImportError| Failure::Other(import_code(&error), error.into());
    let changes = runtime()?.block_on(async {
        if *dry_run {
            return match settings.database.file() {
                Some(file) if !file.exists() => import::try_import(None, options).await.map_err(failed),
                Some(_) | None => {
                    let store = Store::open_to_read(&settings.database).await.map_err(unavailable)?;
                    let done = import::try_import(Some(&store), options).await;
                    store.close().await;
                    done.map_err(failed)
                }
            };
        }
        let (store, change) = Store::migrate(&settings.database, CopyFirst::Yes).await.map_err(unavailable)?;
        if change.from > 0 && change.from < change.to {
            complain(Urgency::Warning, maintenance::migrated(&change).trim_end());
        }
        let done = import::import(&store, options, Clock::system().now().wall).await;
        store.close().await;
        done.map_err(failed)
    })?;
    for warning in &changes.warnings {
        complain(Urgency::Warning, &format!("warning: {}", plain(warning)));
    }
    say(&if *json { import::json(&changes, *dry_run) } else { import::text(&changes, *dry_run) })
}

fn import_code(error: &import::ImportError) -> u8 {
    match error {
        import::ImportError::Input(..) => INPUT,
        import::ImportError::Faults(_) | import::ImportError::TooMany { .. } => DATA,
        import::ImportError::Overtaken | import::ImportError::Store(_) => UNAVAILABLE,
    }
}

fn backup(config: Option<&Path>, file: &Path) -> Result<(), Failure> {
    let settings = load_as_owner(config)?;
    if settings.database.file().is_some() {
        account::must_be_roots(file).map_err(not_permitted)?;
    }
    let bytes = runtime()?.block_on(Store::backup(&settings.database, file)).map_err(|error| {
        let code = match &error {
            BackupError::Postgres | BackupError::Exists(_) => USAGE,
            BackupError::Write { .. } => INPUT,
            BackupError::Read(_) | BackupError::NoFile(_) => UNAVAILABLE,
        };
        Failure::Other(code, error.into())
    })?;
    say(&format!("{bytes} bytes written to {}\n", file.display()))
}

fn migrate(config: Option<&Path>, arguments: &MigrateArguments) -> Result<(), Failure> {
    let settings = load_as_owner(config)?;
    let MigrateArguments { without_copy, json } = arguments;
    let first = if *without_copy { CopyFirst::No } else { CopyFirst::Yes };
    let change = runtime()?.block_on(async {
        let (store, change) = Store::migrate(&settings.database, first).await.map_err(|error| {
            let code = if error.lacks_a_right() { PERMISSION } else { UNAVAILABLE };
            Failure::Other(code, error.into())
        })?;
        store.close().await;
        Ok(change)
    })?;
    say(&if *json { maintenance::migrated_json(&change) } else { maintenance::migrated(&change) })
}

fn maintain(config: Option<&Path>, json: bool) -> Result<(), Failure> {
    let settings = load_as_owner(config)?;
    let progress = progress::Progress::new();
    let reclaimed = runtime()?
        .block_on(Store::maintain(&settings.database, |left| {
            progress.say(|| format!("{} MB left to give back", left.div_ceil(1_000_000)));
        }))
        .map_err(|error| {
            let code = match &error {
                MaintainError::Postgres => USAGE,
                MaintainError::InUse { .. } | MaintainError::NoRoom { .. } | MaintainError::Store(_) => UNAVAILABLE,
            };
            Failure::Other(code, error.into())
        })?;
    say(&if json { maintenance::reclaimed_json(&reclaimed) } else { maintenance::reclaimed(&reclaimed) })
}

fn who_is_in(config: Option<&Path>, json: bool) -> Result<(), Failure> {
    let settings = load_as_owner(config)?;
    let open = reading(&settings, &async |store: &Store| {
        store.open_checkins().await.map_err(|error| unavailable(store.explained(error)))
    })?;
    let now = Clock::system().now().wall;
    say(&if json { who::json(&open) } else { who::text(&open, settings.site.as_ref(), now) })
}

fn would_be_admitted(config: Option<&Path>, arguments: &AdmitArguments) -> Result<(), Failure> {
    let settings = load_as_owner(config)?;
    let AdmitArguments { who, at, json } = arguments;
    let Some(site) = &settings.site else {
        let why = anyhow::anyhow!("admit needs a [site] section; this configuration has none");
        return Err(Failure::Other(CONFIGURATION, why));
    };
    let now = Clock::system().now().wall;
    let at = match at {
        None => now,
        Some(text) => admit::time(text, site, now).map_err(|error| Failure::Other(USAGE, error.into()))?,
    };
    let answer = reading(&settings, &async |store: &Store| {
        admit::admit(store, site, who, at).await.map_err(|error| match error {
            admit::AdmitError::Store(error) => unavailable(store.explained(error)),
            admit::AdmitError::Who(error) => Failure::Other(USAGE, error.into()),
        })
    })?;
    say(&if *json { admit::json(&answer) } else { admit::text(&answer) })
}

fn explain_decisions(config: Option<&Path>, arguments: &ExplainArguments) -> Result<(), Failure> {
    let settings = load_as_owner(config)?;
    let ExplainArguments { who, set_aside, since, json } = arguments;
    let Some(site) = &settings.site else {
        let why = anyhow::anyhow!("explain needs a [site] section; this configuration has none");
        return Err(Failure::Other(CONFIGURATION, why));
    };
    let Some(who) = who.as_deref().filter(|_| !set_aside) else {
        let (facts, policies) = reading(&settings, &async |store: &Store| {
            let facts = explain::load_set_aside(store, &settings, site).await;
            facts.map_err(|error| unavailable(store.explained(error)))
        })?;
        let print = if *json { explain::set_aside_json } else { explain::set_aside_text };
        return say(&print(&facts, &policies));
    };
    let now = Clock::system().now().wall;
    let known = reading(&settings, &async |store: &Store| {
        explain::load(store, &settings, site, (who, *since), now).await.map_err(|error| match error {
            explain::ExplainError::Store(error) => unavailable(store.explained(error)),
            explain::ExplainError::Who(_) => Failure::Other(USAGE, error.into()),
            explain::ExplainError::Busy => Failure::Other(UNAVAILABLE, error.into()),
        })
    })?;
    let explained = explain::explain(known);
    say(&if *json { explain::json(&explained) } else { explain::text(&explained) })
}

fn users(config: Option<&Path>, command: UserCommand) -> Result<(), Failure> {
    let settings = load_as_owner(config)?;
    let now = Clock::system().now().wall;
    let text = match command {
        UserCommand::List { json } => reading_users(&settings, &async |store: &Store| user::list(store, json).await),
        UserCommand::Add { name, rights } => changing_users(&settings, async |store| {
            let (rights, reach) = (user::rights(rights.admin, &rights.role)?, rights.reach());
            user::add(store, &name, (&rights, &reach), &user::ask_password()?, now).await
        }),
        UserCommand::Password { name } => {
            changing_users(&settings, async |store| user::set_password(store, &name, &user::ask_password()?, now).await)
        }
        UserCommand::Role { name, rights } => changing_users(&settings, async |store| {
            user::set_rights(store, &name, (&user::rights(rights.admin, &rights.role)?, &rights.reach()), now).await
        }),
        UserCommand::Remove { name } => changing_users(&settings, async |store| user::remove(store, &name).await),
        UserCommand::Token(command) => user_tokens(&settings, command, now),
    }?;
    say(&text)
}

fn user_tokens(settings: &Settings, command: TokenCommand, now: WallTime) -> Result<String, Failure> {
    match command {
        TokenCommand::List { user, json } => {
            reading_users(settings, &async |store: &Store| user_token::list(store, user.as_ref(), now, json).await)
        }
        TokenCommand::Add(TokenArguments { user, name, ends, role, business, source }) => {
            changing_users(settings, async |store| {
                let roles = (!role.is_empty()).then(|| role.iter().copied().collect());
                let limits = TokenLimits { roles, reach: within(&business), source };
                user_token::add(store, (&user, &name), limits, (user_token::end(ends, now)?, now)).await
            })
        }
        TokenCommand::Revoke { user, name } => {
            changing_users(settings, async |store| user_token::revoke(store, &user, &name).await)
        }
    }
}

/// Reads the API users.
fn reading_users(
    settings: &Settings,
    work: &impl AsyncFn(&Store) -> Result<String, user::UserError>,
) -> Result<String, Failure> {
    reading(settings, &async |store: &Store| {
        work(store).await.map_err(|error| {
            let code = user_code(&error);
            if let user::UserError::Store(error) = error {
                return unavailable(store.explained(error));
            }
            Failure::Other(code, error.into())
        })
    })
}

/// Changes the API users of an existing database.
fn changing_users(
    settings: &Settings,
    work: impl AsyncFnOnce(&Store) -> Result<String, user::UserError>,
) -> Result<String, Failure> {
    runtime()?.block_on(async {
        let store = Store::open_existing(&settings.database).await.map_err(unavailable)?;
        let done = work(&store).await;
        store.close().await;
        done.map_err(|error| Failure::Other(user_code(&error), error.into()))
    })
}

fn user_code(error: &user::UserError) -> u8 {
    match error {
        user::UserError::Rights
        | user::UserError::Exists(_)
        | user::UserError::Unknown(_)
        | user::UserError::Password(_)
        | user::UserError::Differ
        | user::UserError::TokenEnd
        | user::UserError::TokenRole(..)
        | user::UserError::TokenBusiness(..)
        | user::UserError::TokenExists(..)
        | user::UserError::TokensFull(_)
        | user::UserError::NoToken(..) => USAGE,
        user::UserError::Input(_) => INPUT,
        user::UserError::Store(_) => UNAVAILABLE,
    }
}

fn load(config: Option<&Path>) -> Result<Settings, Failure> {
    settings::load(config, settings::environment()).map(|loaded| loaded.settings).map_err(Failure::Settings)
}

/// Loads the settings, and gives up root's rights before the database is opened.
fn load_as_owner(config: Option<&Path>) -> Result<Settings, Failure> {
    let settings = load(config)?;
    become_owner(&settings)?;
    Ok(settings)
}

fn become_owner(settings: &Settings) -> Result<(), Failure> {
    let file = settings.database.file();
    file.map_or(Ok(()), |file| account::become_owner(file, Keep::Nothing)).map_err(not_permitted)
}

/// Reads from the database, beside any daemon. Reads again if a daemon has begun to write to a file that was taken to
/// be at rest.
fn reading<T>(settings: &Settings, work: &impl AsyncFn(&Store) -> Result<T, Failure>) -> Result<T, Failure> {
    runtime()?.block_on(async {
        for _ in 0..READINGS {
            let store = Store::open_to_read(&settings.database).await.map_err(unavailable)?;
            let done = work(&store).await;
            let is_whole = store.was_left_alone();
            store.close().await;
            if is_whole {
                return done;
            }
        }
        Err(Failure::Other(UNAVAILABLE, anyhow::anyhow!("checkind is starting; try again")))
    })
}

fn not_permitted(error: AccountError) -> Failure {
    Failure::Other(PERMISSION, error.into())
}

/// An error with its causes, on one line. A database's answer is in its own words: its library repeats it, and adds the
/// line of the server's source.
fn causes(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if let Some(store) = cause.downcast_ref::<StoreError>() {
            parts.extend(store.answer());
            break;
        }
    }
    parts.join(": ")
}

fn unavailable(error: StoreError) -> Failure {
    let error = if error.is_too_new() { anyhow::anyhow!("{error}") } else { error.into() };
    Failure::Other(UNAVAILABLE, error)
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("cannot start the async runtime")
        .map_err(|error| Failure::Other(SOFTWARE, error))
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::Other(INPUT, error.into()))
}

/// `checkind … | head` is not a failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}
