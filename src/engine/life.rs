//! PURE. The life cycle of a check-in: the step that a claim causes in each phase of the coworker.
//!
//! ```text
//!             entry      exit            activity        strong   weak, fresh  weak, stale  withdrawn  silence  cut-off, pass end
//!  Out        ask        not_checked_in  not_checked_in  ask      weak         weak         late       –        –
//!  Left       ask        not_checked_in  not_checked_in  linger   linger       linger       late       –        –
//!  In         refresh    close           refresh         refresh  weak         weak         close      –        close
//!  Tracked    refresh    close           refresh         refresh  refresh      weak         close      close    close
//! ```
//!
//! *ask* opens a check-in if the coworker is admitted; a refusal makes it fail, and a hold only records it. Claims are
//! processed in time order, so there is no row for late facts: the fold starts before them. A person who is in at
//! another business is handled first; see [`super::person`]. A test checks every cell.

use super::decision::Note;

/// The phase of a coworker at the time of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not checked in.
    Out,
    /// Out by an exit so recent that the phone may still be in range. Only network evidence can lead to this phase.
    Left,
    /// Checked in; the network has seen none of their devices during the visit.
    In,
    /// Checked in; the network has seen one of their devices during the visit, so silence means something.
    Tracked,
}

/// The input of a step: a claim or a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// They came in.
    Entry,
    /// They went out.
    Exit,
    /// They are present, at a door that only refreshes.
    Activity,
    /// The device itself sent something.
    Strong,
    /// Another device may have sent something on its behalf.
    Weak {
        /// Within two idle limits of the last strong evidence.
        fresh: bool,
    },
    /// According to the directory, they may no longer be in.
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
    /// The end that an edit has set: `AutoCheckout` false.
    PinnedEnd,
    /// An edit says that they were not in, or were in by another check-in.
    Edit,
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
            Self::PinnedEnd => "pinned_end",
            Self::Edit => "edit",
        }
    }
}

/// The step to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeStep {
    /// Opens a check-in if they are admitted.
    Ask,
    /// Updates `LastActivity`, devices and the like.
    Refresh,
    /// Closes the check-in.
    Close(CloseBy),
    /// Remembers the evidence in the visit that they left, so lingering can continue.
    Linger,
    /// Only writes the log of facts.
    Record(Note),
    /// Nothing: the timer no longer applies.
    Nothing,
}

/// Looks up the step in the table above.
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

    /// The table from the module documentation: a row per input, a column per phase.
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
