//! The command line as clap reads it: commands, options and their help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::explain;
use crate::access::{Role, UserName};

/// Turns what a coworking site's doors and network already say into check-ins.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub(super) struct Arguments {
    /// The configuration file; `conf.d/*.toml` beside it is read too [default: /etc/checkind/checkind.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon
    Run,
    /// A whole site on this machine with nothing installed: a broker, door controllers, phones, the daemon; a day in a minute
    #[cfg(feature = "demo")]
    Demo(DemoArguments),
    /// Check the configuration: every fault at once, with file, line and caret
    CheckConfig,
    /// Import people, credentials, teams, plans and passes; importing again updates by Id
    #[command(after_help = IMPORT_HELP)]
    Import(ImportArguments),
    /// Copy the SQLite database into a new file while the daemon runs
    Backup {
        /// The new file; nothing is overwritten
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Who is in now, since when, last activity, why still in
    Who {
        /// Print the open check-ins in the API's shape
        #[arg(long)]
        json: bool,
    },
    /// Would this person be let in, by which pass until when, or why not; nothing is written
    Admit(AdmitArguments),
    /// Why was this person checked in, refused or charged: the facts and decisions in order; nothing is written
    Explain(ExplainArguments),
    /// What captured frames mean
    Replay(Replay),
    /// API users, their roles and passwords
    #[command(subcommand)]
    User(UserCommand),
}

const IMPORT_HELP: &str = "\
All files are one import: either everything is written or nothing, and every fault is listed with its place.

JSON is one object of lists, all optional: Businesses, Teams, Tariffs, TimePasses, Coworkers,
CoworkerTimePasses, in the API's shape. Of what is stored under its Id, an entity changes the keys that it has: an
absent key keeps its value, null or an empty text clears what an import brought.
  {\"Coworkers\": [{\"Id\": 7, \"FullName\": \"Ada Example\", \"AccessCardId\": \"8165538\"}]}

A name that ends in .csv, .tsv, .tab or .txt is a table of people, with commas, semicolons or tabs. It changes only the
columns that it has; an empty field empties, but active stays as it is. Columns that it does not know are left out.
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
    /// Say what would change, and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Also archive what the files no longer hold, of those lists of which they hold anything; =all if that is more than a
    /// tenth of the people
    #[arg(long, value_name = "all", num_args = 0..=1, require_equals = true, default_missing_value = "tenth")]
    pub(super) replace: Option<ReplaceWord>,
    /// Print what changed as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// JSON in the API's entity shape, or a table of people (*.csv, *.tsv)
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct AdmitArguments {
    /// A card as the reader reads it, a device's MAC address, or the number or name of a coworker
    #[arg(value_name = "CARD|MAC|COWORKER")]
    pub(super) who: String,
    /// When: 10:30 today, "2026-01-31 10:30" on the site's wall clock, or 2026-01-31T10:30:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub(super) at: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// A card as the reader reads it, a device's MAC address, or the number or name of a coworker
    #[arg(value_name = "CARD|MAC|COWORKER")]
    pub(super) who: String,
    /// Begin so many days ago, 1 to 10; 1 is yesterday
    #[arg(long, value_name = "DAYS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=i64::from(explain::MOST_DAYS)))]
    pub(super) since: u32,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Print what each frame meant, one line a frame
    #[arg(long, required = true)]
    pub(super) frames: bool,
    /// pcap or pcapng files
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// How many minutes the day takes [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..=120))]
    pub(super) minutes: Option<u64>,
    /// How many seconds the day takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10..=7200))]
    pub(super) seconds: Option<u64>,
    /// Go on serving after the day, until Ctrl-C; so it is anyway when the output is a terminal
    #[arg(long)]
    pub(super) stay: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user; the password is read from the terminal or standard input
    Add {
        /// The name, for example an e-mail address
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
    /// Give a user a new password; their tokens end
    Password {
        /// The name
        name: UserName,
    },
    /// Give a user other roles
    Role {
        /// The name
        name: UserName,
        #[command(flatten)]
        rights: RightsArguments,
    },
    /// Remove a user; their tokens end
    Remove {
        /// The name
        name: UserName,
    },
}

#[derive(Debug, Args)]
pub(super) struct RightsArguments {
    /// A role, for example Checkin-Read; may be given several times
    #[arg(long, value_name = "ROLE")]
    pub(super) role: Vec<Role>,
    /// A full administrator
    #[arg(long)]
    pub(super) admin: bool,
}
