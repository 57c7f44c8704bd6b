//! PURE. The life of a check-in: which step a claim takes in each phase of the coworker.
//!
//! ```text
//!             entry      exit            activity        strong   weak, fresh  weak, stale  withdrawn  silence  cut-off, pass end
//!  Out        ask        not_checked_in  not_checked_in  ask      weak         weak         late       –        –
//!  Left       ask        not_checked_in  not_checked_in  linger   linger       linger       late       –        –
//!  In         refresh    close           refresh         refresh  weak         weak         close      –        close
//!  Tracked    refresh    close           refresh         refresh  refresh      weak         close      close    close
//! ```
//!
//! *ask* opens if the coworker is admitted; refused it fails, held it is only recorded. Claims come in the order of
//! their time, so there is no row for late facts: the fold starts before them. A person who is in at another business
//! is handled first; see [`super::person`]. Every cell is walked by a test.

use super::decision::Note;

/// The phase of a coworker at the time of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not checked in.
    Out,
    /// Out by an exit, so recently that the phone may still be in range. Only network evidence meets this phase.
    Left,
    /// Checked in; the network has not seen a device of theirs during it.
    In,
    /// Checked in; the network has seen a device of theirs during it, so silence means something.
    Tracked,
}

/// What a claim says, seen from the life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// They came in.
    Entry,
    /// They went out.
    Exit,
    /// They are there, according to a door that only refreshes.
    Activity,
    /// The device itself sent something.
    Strong,
    /// Another device may have sent this for it.
    Weak {
        /// Within two idle limits of the last strong evidence.
        fresh: bool,
    },
    /// The directory says that they may no longer be in.
    Withdrawn,
    /// The device was silent for longer than the idle limit.
    Silence,
    /// The pass day ended.
    CutOff,
    /// Their pass no longer covers the visit.
    PassEnd,
}

/// What closed a check-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseBy {
    /// An exit: `AutoCheckout` false.
    Exit,
    /// The directory: they may no longer be in.
    Withdrawn,
    /// Silence: closed at the last activity.
    Silence,
    /// The daily cut-off.
    CutOff,
    /// The end of what the pass covers.
    PassEnd,
    /// They came in at another business.
    Elsewhere,
}

impl CloseBy {
    /// The word for the log of facts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Withdrawn => "withdrawn",
            Self::Silence => "silence",
            Self::CutOff => "cut_off",
            Self::PassEnd => "pass_end",
            Self::Elsewhere => "in_elsewhere",
        }
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeStep {
    /// A check-in, if they are admitted.
    Ask,
    /// `LastActivity`, devices and the like are brought up to date.
    Refresh,
    /// The check-in ends.
    Close(CloseBy),
    /// Remembered with the check-in that they left, so lingering can go on.
    Linger,
    /// Only the log of facts.
    Record(Note),
    /// A timer that no longer applies.
    Nothing,
}

/// The table above.
pub fn step(phase: Phase, input: Input) -> LifeStep {
    match input {
        Input::Entry => match phase {
            Phase::Out | Phase::Left => LifeStep::Ask,
            Phase::In | Phase::Tracked => LifeStep::Refresh,
        },
        Input::Exit => leave(phase, CloseBy::Exit, Note::NotCheckedIn),
        Input::Activity => match phase {
            Phase::In | Phase::Tracked => LifeStep::Refresh,
            Phase::Out | Phase::Left => LifeStep::Record(Note::NotCheckedIn),
        },
        Input::Strong => match phase {
            Phase::Out => LifeStep::Ask,
            Phase::Left => LifeStep::Linger,
            Phase::In | Phase::Tracked => LifeStep::Refresh,
        },
        Input::Weak { fresh } => match phase {
            Phase::Tracked if fresh => LifeStep::Refresh,
            Phase::Left => LifeStep::Linger,
            Phase::Out | Phase::In | Phase::Tracked => LifeStep::Record(Note::WeakEvidence),
        },
        Input::Withdrawn => leave(phase, CloseBy::Withdrawn, Note::Late),
        Input::Silence => match phase {
            Phase::Tracked => LifeStep::Close(CloseBy::Silence),
            Phase::Out | Phase::Left | Phase::In => LifeStep::Nothing,
        },
        Input::CutOff => end(phase, CloseBy::CutOff),
        Input::PassEnd => end(phase, CloseBy::PassEnd),
    }
}

fn leave(phase: Phase, by: CloseBy, out: Note) -> LifeStep {
    match phase {
        Phase::In | Phase::Tracked => LifeStep::Close(by),
        Phase::Out | Phase::Left => LifeStep::Record(out),
    }
}

fn end(phase: Phase, by: CloseBy) -> LifeStep {
    match phase {
        Phase::In | Phase::Tracked => LifeStep::Close(by),
        Phase::Out | Phase::Left => LifeStep::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 4] = [Phase::Out, Phase::Left, Phase::In, Phase::Tracked];

    /// The table of the module's page, a row per input, a column per phase.
    #[test]
    fn every_cell_of_the_table_is_as_drawn() {
        use LifeStep::{Ask, Close, Linger, Nothing, Record, Refresh};
        let out = Record(Note::NotCheckedIn);
        let late = Record(Note::Late);
        let weak = Record(Note::WeakEvidence);
        let close = |by| [Close(by), Close(by)];
        let table: [(Input, [LifeStep; 2], [LifeStep; 2]); 10] = [
            //                             Out      Left      In       Tracked
            (Input::Entry, [Ask, Ask], [Refresh, Refresh]),
            (Input::Exit, [out, out], close(CloseBy::Exit)),
            (Input::Activity, [out, out], [Refresh, Refresh]),
            (Input::Strong, [Ask, Linger], [Refresh, Refresh]),
            (Input::Weak { fresh: true }, [weak, Linger], [weak, Refresh]),
            (Input::Weak { fresh: false }, [weak, Linger], [weak, weak]),
            (Input::Withdrawn, [late, late], close(CloseBy::Withdrawn)),
            (Input::Silence, [Nothing, Nothing], [Nothing, Close(CloseBy::Silence)]),
            (Input::CutOff, [Nothing, Nothing], close(CloseBy::CutOff)),
            (Input::PassEnd, [Nothing, Nothing], close(CloseBy::PassEnd)),
        ];
        for (input, away, there) in table {
            for (phase, expected) in PHASES.into_iter().zip(away.into_iter().chain(there)) {
                assert_eq!(step(phase, input), expected, "{phase:?} × {input:?}");
            }
        }
    }
}
