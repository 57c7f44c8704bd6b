//! The command line as clap reads it: commands, options and their help.

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand};

use super::explain;
use crate::{
    access::{ClaimedSource, Reach, Role, TokenName, UserName},
    base::record::BusinessId,
};

/// Turns what a coworking site's doors and network already report into check-ins.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub(super) struct Arguments {
    /// Configuration file; `conf.d/*.toml` beside it is read too [default: /etc/checkind/checkind.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon
    Run,
    /// Simulate a whole site on this machine, with nothing to install: broker, door controllers, phones and the daemon,
    /// a day in a minute
    #[cfg(feature = "demo")]
    Demo(DemoArguments),
    /// Check the configuration and list every fault, with file, line and caret
    CheckConfig,
    /// Import people, credentials, teams, plans and passes; a later import updates them by Id
    #[command(after_help = IMPORT_HELP)]
    Import(ImportArguments),
    /// Copy the SQLite database to a new file while the daemon runs
    Backup {
        /// The new file; an existing file is never overwritten
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Change the tables to what this version needs; `run` and `import` do so too, if they may
    Migrate(MigrateArguments),
    /// Give the disk space of deleted rows back, while the daemon runs
    Maintain {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List who is in, since when, their last activity, and why they are still in
    Who {
        /// Print the open check-ins as JSON, as the API returns them
        #[arg(long)]
        json: bool,
    },
    /// Say whether someone would be let in, with which pass and until when, or why not; changes no record
    Admit(AdmitArguments),
    /// Explain why someone was checked in, refused or charged: facts and decisions in order; changes no record
    Explain(ExplainArguments),
    /// Decode the frames of a capture file
    Replay(Replay),
    /// Manage API users, their roles, passwords and tokens
    #[command(subcommand)]
    User(UserCommand),
}

const IMPORT_HELP: &str = "\
All files form one import: either all of it is written or nothing, and every fault is listed with its place.

JSON is one object of lists, all optional: Businesses, Teams, Tariffs, TimePasses, Coworkers,
CoworkerTimePasses, with the API's keys. An entity changes only the keys that it has, of what is stored under its Id: an
absent key keeps its value; null or an empty text clears a value that an import set.
  {\"Coworkers\": [{\"Id\": 7, \"FullName\": \"Ada Example\", \"AccessCardId\": \"8165538\"}]}

A file named .csv, .tsv, .tab or .txt is a table of people, separated by commas, semicolons or tabs. It changes only the
columns that it has. An empty field clears the value, except for active, which stays as it is. Unknown columns are ignored.
  id,full_name,email,active,tariff,teams,cards,macs,slots
  7,Ada,a@example.com,true,Full time,Rocket;Anvil,8165538,3c:22:fb:01:02:03,locks/back-door/5";

/// How much `--replace` may archive.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum ReplaceWord {
    #[value(hide = true)]
    Tenth,
    All,
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// List what would change, and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Also archive entities that the files no longer contain, in every list of which they contain any; use =all to
    /// archive more than a tenth of the people
    #[arg(long, value_name = "all", num_args = 0..=1, require_equals = true, default_missing_value = "tenth")]
    pub(super) replace: Option<ReplaceWord>,
    /// Print the changes as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// JSON with the API's keys, or a table of people (*.csv, *.tsv)
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct MigrateArguments {
    /// Do not copy the SQLite file first, for a disk without room for the copy
    #[arg(long)]
    pub(super) without_copy: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct AdmitArguments {
    /// A card as the reader reads it, a slot as `source/door/5`, a MAC address, or a coworker's number or name
    #[arg(value_name = "CARD|MAC|COWORKER")]
    pub(super) who: String,
    /// Time: 10:30 (today), "2026-01-31 10:30" in the site's time zone, or 2026-01-31T10:30:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub(super) at: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// A card as the reader reads it, a slot as `source/door/5`, a MAC address, or a coworker's number or name
    #[arg(value_name = "CARD|MAC|COWORKER", required_unless_present = "set_aside")]
    pub(super) who: Option<String>,
    /// List the facts that the database did not take, latest first, instead of explaining
    #[arg(long, conflicts_with_all = ["who", "since"])]
    pub(super) set_aside: bool,
    /// How many days to go back, 1 to 10; 1 starts yesterday
    #[arg(long, value_name = "DAYS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=i64::from(explain::MAX_DAYS)))]
    pub(super) since: u32,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Print what each frame means, one line per frame
    #[arg(long, required = true)]
    pub(super) frames: bool,
    /// pcap or pcapng files
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Length of the day in minutes [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..=120))]
    pub(super) minutes: Option<u64>,
    /// Length of the day in seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=7200))]
    pub(super) seconds: Option<u64>,
    /// Keep serving after the day until Ctrl-C; the default when the output is a terminal
    #[arg(long)]
    pub(super) stay: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user; reads the password from the terminal or standard input
    Add {
        /// User name, for example an e-mail address
        name: UserName,
        #[command(flatten)]
        rights: RightsArguments,
    },
    /// List users and their roles
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Set a new password for a user; revokes their tokens
    Password {
        /// User name
        name: UserName,
    },
    /// Replace a user's roles and businesses
    Role {
        /// User name
        name: UserName,
        #[command(flatten)]
        rights: RightsArguments,
    },
    /// Remove a user; revokes their tokens
    Remove {
        /// User name
        name: UserName,
    },
    /// Manage long-lived tokens: for a display at the door, or a program that cannot sign in again
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it, this once
    Add(TokenArguments),
    /// List tokens: what for, what they allow, when they were made and last used, and when they end
    List {
        /// Only those of this user
        #[arg(value_name = "USER")]
        user: Option<UserName>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token
    Revoke {
        /// User name
        #[arg(value_name = "USER")]
        user: UserName,
        /// Name of the token
        #[arg(long, value_name = "TOKEN")]
        name: TokenName,
    },
}

#[derive(Debug, Args)]
pub(super) struct TokenArguments {
    /// User name; the token never allows more than this user may do
    #[arg(value_name = "USER")]
    pub(super) user: UserName,
    /// What the token is for, for example "door display"
    #[arg(long, value_name = "TOKEN")]
    pub(super) name: TokenName,
    /// Last day on which the token is valid, as 2027-01-31, at most two years from now [default: a year from now]
    #[arg(long, value_name = "DATE")]
    pub(super) ends: Option<NaiveDate>,
    /// Limit the token to this role of the user; repeat the option for several, leave it out for all
    #[arg(long, value_name = "ROLE")]
    pub(super) role: Vec<Role>,
    /// Limit the token to this business of the user; repeat the option for several, leave it out for all
    #[arg(long, value_name = "ID")]
    pub(super) business: Vec<i64>,
    /// Source that the token may claim for check-ins: 4 (Tile) or 5 (Sensor); without it, its check-ins are Manual
    #[arg(long, value_name = "SOURCE")]
    pub(super) source: Option<ClaimedSource>,
}

#[derive(Debug, Args)]
pub(super) struct RightsArguments {
    /// Role, for example Checkin-Read; repeat the option for several roles
    #[arg(long, value_name = "ROLE")]
    pub(super) role: Vec<Role>,
    /// Make the user a full administrator
    #[arg(long)]
    pub(super) admin: bool,
    /// Id of a business whose records the user may see; repeat the option for several, leave it out for all
    #[arg(long, value_name = "ID")]
    pub(super) business: Vec<i64>,
}

impl RightsArguments {
    pub(super) fn reach(&self) -> Reach {
        within(&self.business)
    }
}

/// What `--business` says.
pub(super) fn within(businesses: &[i64]) -> Reach {
    Reach::of(businesses.iter().copied().map(BusinessId))
}
