//! PURE. The life of a check-in: which step a claim takes, given where the coworker stands.
//!
//! ```text
//!             entry      exit            activity        strong     weak, fresh  weak, stale  silence  cut-off
//!  Out        open       not_checked_in  not_checked_in  open       weak         weak         –        –
//!  Left       open       not_checked_in  not_checked_in  linger     linger       linger       –        –
//!  In         refresh    close           refresh         refresh    weak         weak         –        close
//!  Tracked    refresh    close           refresh         refresh    refresh      weak         close    close
//!  Covered    late       late            late            late       late         late         –        –
//!  Lapsed     late       close           late            late       late         late         –        –
//!  Before     move back  not_checked_in  not_checked_in  move back  late         late         –        –
//! ```
//!
//! *open* and *move back* need admission: refused they fail, held they are only recorded. An exit that later entries or
//! later signs of life have overtaken (*stale*) is `late` wherever it would close. Every cell is walked by a test.

use super::decision::{Note, Reason};

/// Where a coworker stood at the time of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not checked in, and no later check-in on that pass day.
    Out,
    /// Out by an exit, so recently that the phone may still be in range. Only network evidence meets this phase.
    Left,
    /// Checked in; the network has not seen a device of theirs during it.
    In,
    /// Checked in; the network has seen a device of theirs during it, so that silence means something.
    Tracked,
    /// Inside a check-in that an exit has closed.
    Covered,
    /// In a check-in that we closed ourselves, without having heard of this exit: inside it, or soon after its end.
    Lapsed,
    /// Not checked in then, but a check-in began later on that pass day.
    Before,
}

/// What a claim says, seen from the life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody came in.
    Entry,
    /// Somebody went out; `overtaken` when later events have shown them inside again.
    Exit {
        /// A later entry, or signs of life long after it, are already known.
        overtaken: bool,
    },
    /// Somebody is there, by a door that only refreshes.
    Activity,
    /// The device itself sent something.
    Strong,
    /// Something that others may have sent for the device.
    Weak {
        /// Within two silence limits of the last strong evidence.
        fresh: bool,
    },
    /// Nothing was heard for longer than the silence limit.
    Silence,
    /// The pass day ended.
    CutOff,
}

/// May this claim open a check-in?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Admitted,
    /// No, and that is a failed check-in.
    Refused(Reason),
    /// No, and that is nobody's fault (too short a stay, a site where the network opens nothing).
    Held(Note),
}

/// What closed a check-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseBy {
    /// An exit: `AutoCheckout` false.
    Exit,
    /// Silence: closed at the last activity.
    Silence,
    /// The daily cut-off.
    CutOff,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new check-in.
    Open,
    /// `LastActivity`, devices and the like are brought up to date.
    Refresh,
    /// The check-in ends.
    Close(CloseBy),
    /// The next check-in of that day began earlier than we thought.
    MoveBack,
    /// Remembered with the check-in that was left, so that lingering can go on.
    Linger,
    /// A failed check-in.
    Fail(Reason),
    /// Only the sighting log.
    Record(Note),
    /// A timer that no longer applies.
    Nothing,
}

/// The table above.
pub fn step(phase: Phase, input: Input, admission: Admission) -> Step {
    match input {
        Input::Entry => entry(phase, admission),
        Input::Exit { overtaken } => exit(phase, overtaken),
        Input::Activity => activity(phase),
        Input::Strong => strong(phase, admission),
        Input::Weak { fresh } => weak(phase, fresh),
        Input::Silence => match phase {
            Phase::Tracked => Step::Close(CloseBy::Silence),
            Phase::Out | Phase::Left | Phase::In | Phase::Covered | Phase::Lapsed | Phase::Before => Step::Nothing,
        },
        Input::CutOff => match phase {
            Phase::In | Phase::Tracked => Step::Close(CloseBy::CutOff),
            Phase::Out | Phase::Left | Phase::Covered | Phase::Lapsed | Phase::Before => Step::Nothing,
        },
    }
}

fn entry(phase: Phase, admission: Admission) -> Step {
    match phase {
        Phase::Out | Phase::Left => admitted(admission, Step::Open),
        Phase::Before => admitted(admission, Step::MoveBack),
        Phase::In | Phase::Tracked => Step::Refresh,
        Phase::Covered | Phase::Lapsed => Step::Record(Note::Late),
    }
}

fn exit(phase: Phase, overtaken: bool) -> Step {
    match phase {
        Phase::In | Phase::Tracked | Phase::Lapsed if overtaken => Step::Record(Note::Late),
        Phase::In | Phase::Tracked | Phase::Lapsed => Step::Close(CloseBy::Exit),
        Phase::Out | Phase::Left | Phase::Before => Step::Record(Note::NotCheckedIn),
        Phase::Covered => Step::Record(Note::Late),
    }
}

fn activity(phase: Phase) -> Step {
    match phase {
        Phase::In | Phase::Tracked => Step::Refresh,
        Phase::Out | Phase::Left | Phase::Before => Step::Record(Note::NotCheckedIn),
        Phase::Covered | Phase::Lapsed => Step::Record(Note::Late),
    }
}

fn strong(phase: Phase, admission: Admission) -> Step {
    match phase {
        Phase::Out => admitted(admission, Step::Open),
        Phase::Left => Step::Linger,
        Phase::In | Phase::Tracked => Step::Refresh,
        Phase::Covered | Phase::Lapsed => Step::Record(Note::Late),
        Phase::Before => admitted(admission, Step::MoveBack),
    }
}

fn weak(phase: Phase, fresh: bool) -> Step {
    match phase {
        Phase::Tracked if fresh => Step::Refresh,
        Phase::Left => Step::Linger,
        Phase::Out | Phase::In | Phase::Tracked => Step::Record(Note::WeakEvidence),
        Phase::Covered | Phase::Lapsed | Phase::Before => Step::Record(Note::Late),
    }
}

fn admitted(admission: Admission, then: Step) -> Step {
    match admission {
        Admission::Admitted => then,
        Admission::Refused(reason) => Step::Fail(reason),
        Admission::Held(note) => Step::Record(note),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 7] =
        [Phase::Out, Phase::Left, Phase::In, Phase::Tracked, Phase::Covered, Phase::Lapsed, Phase::Before];

    /// The table of the module's page, a row per input, a column per phase.
    #[test]
    fn every_cell_of_the_table_is_as_drawn() {
        use Step::{Close, Linger, MoveBack, Nothing, Open, Record, Refresh};
        let out = Record(Note::NotCheckedIn);
        let late = Record(Note::Late);
        let weak = Record(Note::WeakEvidence);
        let table: [(Input, [Step; 7]); 9] = [
            //                                    Out      Left     In                      Tracked                  Covered  Lapsed  Before
            (Input::Entry, [Open, Open, Refresh, Refresh, late, late, MoveBack]),
            (
                Input::Exit { overtaken: false },
                [out, out, Close(CloseBy::Exit), Close(CloseBy::Exit), late, Close(CloseBy::Exit), out],
            ),
            (Input::Exit { overtaken: true }, [out, out, late, late, late, late, out]),
            (Input::Activity, [out, out, Refresh, Refresh, late, late, out]),
            (Input::Strong, [Open, Linger, Refresh, Refresh, late, late, MoveBack]),
            (Input::Weak { fresh: true }, [weak, Linger, weak, Refresh, late, late, late]),
            (Input::Weak { fresh: false }, [weak, Linger, weak, weak, late, late, late]),
            (Input::Silence, [Nothing, Nothing, Nothing, Close(CloseBy::Silence), Nothing, Nothing, Nothing]),
            (
                Input::CutOff,
                [Nothing, Nothing, Close(CloseBy::CutOff), Close(CloseBy::CutOff), Nothing, Nothing, Nothing],
            ),
        ];
        for (input, row) in table {
            for (phase, expected) in PHASES.into_iter().zip(row) {
                assert_eq!(step(phase, input, Admission::Admitted), expected, "{phase:?} × {input:?}");
                let refused = step(phase, input, Admission::Refused(Reason::CoworkerInactive));
                let held = step(phase, input, Admission::Held(Note::DwellNotReached));
                if matches!(expected, Open | MoveBack) {
                    assert_eq!(refused, Step::Fail(Reason::CoworkerInactive), "{phase:?} × {input:?}, refused");
                    assert_eq!(held, Record(Note::DwellNotReached), "{phase:?} × {input:?}, held");
                } else {
                    assert_eq!((refused, held), (expected, expected), "{phase:?} × {input:?} asks for no admission");
                }
            }
        }
    }
}
