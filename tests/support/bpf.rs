//! Runs a classic BPF program as the kernel would (`Documentation/networking/filter.rst`), with the instructions in
//! use.

use checkind::source::network::filter::Instruction;

/// Returns how many octets of the packet the program keeps; 0 drops it. A load beyond the end drops the packet.
pub(crate) fn run(program: &[Instruction], packet: &[u8]) -> u32 {
    let (mut a, mut x) = (0u32, 0u32);
    let mut at = 0;
    loop {
        let Instruction { code, jump_true, jump_false, operand: k } = program[at];
        at += 1;
        let load = |offset: u32, size: usize| {
            let from = usize::try_from(offset).ok()?;
            let bytes = packet.get(from..from + size)?;
            Some(bytes.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte)))
        };
        let mut jump = |holds: bool| at += usize::from(if holds { jump_true } else { jump_false });
        match code {
            0x01 => x = k,
            0x04 => a = a.wrapping_add(k),
            0x06 => return k,
            0x07 => x = a,
            0x0c => a = a.wrapping_add(x),
            0x15 => jump(a == k),
            0x25 => jump(a > k),
            0x35 => jump(a >= k),
            0x45 => jump(a & k != 0),
            0x54 => a &= k,
            0x64 => a <<= k,
            0x87 => a = x,
            0x28 | 0x40 | 0x48 | 0x50 => {
                let offset = if code == 0x28 { k } else { x.wrapping_add(k) };
                let size = match code {
                    0x40 => 4,
                    0x50 => 1,
                    _ => 2,
                };
                match load(offset, size) {
                    Some(value) => a = value,
                    None => return 0,
                }
            }
            other => panic!("instruction {at} has the code {other:#x}, which this does not know"),
        }
    }
}
