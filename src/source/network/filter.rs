//! PURE. The filter that the kernel runs on every mirrored frame, as classic BPF (`bpf(4)`, Linux `filter.rst`).
//!
//! It passes everything that [`frame::observe`](super::frame::observe) might accept as evidence, and little else; it
//! decides nothing. The kernel strips one VLAN tag before the filter runs, but only if it is of 802.1Q or 802.1ad: with
//! the old type 0x9100 all three tags are in the frame, so the filter follows three.

/// One instruction of classic BPF, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a jump's condition holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// How many octets of a frame are kept. A DHCP message that fills an Ethernet frame under three tags fits; a jumbo
/// frame is cut, but everything that we read is in its first few hundred octets.
pub const KEPT: u32 = 2048;

/// The program, from the first instruction to the last.
pub fn program() -> Vec<Instruction> {
    assemble(&source())
}

const LOAD_WORD_X: u16 = 0x40;
const LOAD_HALF: u16 = 0x28;
const LOAD_HALF_X: u16 = 0x48;
const LOAD_BYTE_X: u16 = 0x50;
const SET_X: u16 = 0x01;
const X_TO_A: u16 = 0x87;
const A_TO_X: u16 = 0x07;
const AND: u16 = 0x54;
const SHIFT_LEFT: u16 = 0x64;
const ADD: u16 = 0x04;
const ADD_X: u16 = 0x0c;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// The target of a jump, in the order in which the marks occur in the program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// The next instruction.
    Next,
    FirstTag,
    SecondTag,
    ThirdTag,
    Typed,
    EtherType,
    Ipv4,
    Ipv6,
    Discovery,
    OverIpv6,
    Udp,
    Keep,
    Drop,
}

#[derive(Clone, Copy)]
enum AsmStatement {
    Do(u16, u32),
    If(u16, u32, Mark, Mark),
    Here(Mark),
}

/// The program, with symbolic jumps. X contains the offset of the octets after the Ethernet header: first of tags, then
/// of SNAP, then of the IP header.
fn source() -> Vec<AsmStatement> {
    use AsmStatement::{Do, Here, If};
    use Mark::{
        Discovery, Drop, EtherType, FirstTag, Ipv4, Ipv6, Keep, Next, OverIpv6, SecondTag, ThirdTag, Typed, Udp,
    };
    vec![
        // Up to three VLAN tags.
        Do(SET_X, 0),
        Do(LOAD_HALF, 12),
        If(IF_EQUAL, 0x8100, FirstTag, Next),
        If(IF_EQUAL, 0x88a8, FirstTag, Next),
        If(IF_EQUAL, 0x9100, FirstTag, Typed),
        Here(FirstTag),
        Do(SET_X, 4),
        Do(LOAD_HALF, 16),
        If(IF_EQUAL, 0x8100, SecondTag, Next),
        If(IF_EQUAL, 0x88a8, SecondTag, Next),
        If(IF_EQUAL, 0x9100, SecondTag, Typed),
        Here(SecondTag),
        Do(SET_X, 8),
        Do(LOAD_HALF, 20),
        If(IF_EQUAL, 0x8100, ThirdTag, Next),
        If(IF_EQUAL, 0x88a8, ThirdTag, Next),
        If(IF_EQUAL, 0x9100, ThirdTag, Typed),
        Here(ThirdTag),
        Do(SET_X, 12),
        Do(LOAD_HALF, 24),
        Here(Typed),
        If(IF_GREATER, 1500, EtherType, Next),
        // IEEE 802.3: the same protocols behind LLC and SNAP.
        Do(LOAD_WORD_X, 14),
        If(IF_EQUAL, 0xaaaa_0300, Next, Drop),
        Do(LOAD_HALF_X, 18),
        If(IF_EQUAL, 0, Next, Drop),
        Do(X_TO_A, 0),
        Do(ADD, 8),
        Do(A_TO_X, 0),
        Do(LOAD_HALF_X, 12),
        // Keep ARP; for IP, read further.
        Here(EtherType),
        If(IF_EQUAL, 0x0806, Keep, Next),
        If(IF_EQUAL, 0x0800, Ipv4, Next),
        If(IF_EQUAL, 0x86dd, Ipv6, Drop),
        // IPv4: UDP in a first fragment.
        Here(Ipv4),
        Do(LOAD_BYTE_X, 23),
        If(IF_EQUAL, 17, Next, Drop),
        Do(LOAD_HALF_X, 20),
        If(IF_ANY_BIT, 0x1fff, Drop, Next),
        Do(LOAD_BYTE_X, 14),
        Do(AND, 0x0f),
        Do(SHIFT_LEFT, 2),
        Do(ADD_X, 0),
        Do(A_TO_X, 0),
        If(IF_AT_LEAST, 0, Udp, Udp),
        // IPv6: UDP, or the four messages of neighbour discovery that are read.
        Here(Ipv6),
        Do(LOAD_BYTE_X, 20),
        If(IF_EQUAL, 17, OverIpv6, Next),
        If(IF_EQUAL, 58, Discovery, Drop),
        Here(Discovery),
        Do(LOAD_BYTE_X, 54),
        If(IF_AT_LEAST, 133, Next, Drop),
        If(IF_GREATER, 136, Drop, Keep),
        Here(OverIpv6),
        Do(X_TO_A, 0),
        Do(ADD, 40),
        Do(A_TO_X, 0),
        // UDP: the ports of DHCPv4 and DHCPv6, as source or destination.
        Here(Udp),
        Do(LOAD_HALF_X, 14),
        If(IF_EQUAL, 67, Keep, Next),
        If(IF_EQUAL, 68, Keep, Next),
        If(IF_EQUAL, 546, Keep, Next),
        If(IF_EQUAL, 547, Keep, Next),
        Do(LOAD_HALF_X, 16),
        If(IF_EQUAL, 67, Keep, Next),
        If(IF_EQUAL, 68, Keep, Next),
        If(IF_EQUAL, 546, Keep, Next),
        If(IF_EQUAL, 547, Keep, Drop),
        Here(Keep),
        Do(RETURN, KEPT),
        Here(Drop),
        Do(RETURN, 0),
    ]
}

/// Resolves the marks to jump distances.
fn assemble(lines: &[AsmStatement]) -> Vec<Instruction> {
    // First pass: the position of each mark.
    let mut marks = Vec::new();
    let mut count = 0usize;
    for line in lines {
        match line {
            AsmStatement::Here(mark) => marks.push((*mark, count)),
            AsmStatement::Do(..) | AsmStatement::If(..) => count += 1,
        }
    }
    let skip = |from: usize, to: Mark| {
        let target = marks.iter().find(|(mark, _)| *mark == to).map_or(from + 1, |(_, at)| *at);
        u8::try_from(target - from - 1).expect("the program is shorter than a jump reaches")
    };
    // Second pass: the instructions.
    let mut program = Vec::with_capacity(count);
    for line in lines {
        let at = program.len();
        match *line {
            AsmStatement::Do(code, operand) => program.push(Instruction { code, jump_true: 0, jump_false: 0, operand }),
            AsmStatement::If(code, operand, yes, no) => {
                program.push(Instruction { code, jump_true: skip(at, yes), jump_false: skip(at, no), operand });
            }
            AsmStatement::Here(_) => {}
        }
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_lands_inside_and_the_program_ends_with_a_return() {
        let program = program();
        for (at, instruction) in program.iter().enumerate() {
            if instruction.code & 0x07 == 0x05 {
                let furthest = usize::from(instruction.jump_true.max(instruction.jump_false));
                assert!(at + 1 + furthest < program.len(), "instruction {at}");
            }
        }
        assert_eq!(program.last().map(|last| last.code), Some(RETURN));
    }

    #[test]
    fn the_filter_stays_small_because_it_runs_on_every_mirrored_frame() {
        assert!(program().len() <= 64, "{} instructions", program().len());
    }
}
