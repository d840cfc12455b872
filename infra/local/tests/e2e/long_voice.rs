//! A voice message of any length: a short one whose sound is said again and again.

/// A box of an MP4 file: its size, its name, what it holds (ISO/IEC 14496-12, 4.2).
fn boxed(name: &[u8], holds: &[u8]) -> Vec<u8> {
    let size = u32::try_from(holds.len() + 8).expect("a small box");
    [&size.to_be_bytes(), name, holds].concat()
}

fn boxes(mut file: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut found = Vec::new();
    while file.len() >= 8 {
        let (one, rest) = file.split_at(number(file, 0) as usize);
        found.push((&one[4..8], &one[8..]));
        file = rest;
    }
    found
}

fn number(bytes: &[u8], place: usize) -> u32 {
    u32::from_be_bytes(bytes[place..place + 4].try_into().expect("four bytes"))
}

fn four(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("a small file").to_be_bytes()
}

/// `voice`, an MP4 file with one track in one piece, said `times` times over.
pub(crate) fn said_again(voice: &[u8], times: usize) -> Vec<u8> {
    let whole = boxes(voice);
    let find = |name: &[u8]| whole.iter().find(|(found, _)| *found == name).expect("a box").1;
    let head = boxed(b"ftyp", find(b"ftyp"));
    let sound = boxed(b"mdat", &find(b"mdat").repeat(times));
    let tables = boxed(b"moov", &tables(find(b"moov"), times, head.len() + 8));
    [head, sound, tables].concat()
}

/// What says where which packet lies, for all of them in one chunk at `sound_at`.
fn tables(holds: &[u8], times: usize, sound_at: usize) -> Vec<u8> {
    let parts = boxes(holds).into_iter().map(|(name, holds)| {
        let holds = match name {
            b"trak" | b"mdia" | b"minf" | b"stbl" => tables(holds, times, sound_at),
            b"stts" => [&holds[..4], &four(number(holds, 4) as usize * times), &holds[8..].repeat(times)].concat(),
            b"stsz" => [&holds[..8], &four(number(holds, 8) as usize * times), &holds[12..].repeat(times)].concat(),
            b"stsc" => [&holds[..12], &four(number(holds, 12) as usize * times), &holds[16..]].concat(),
            b"stco" => [&holds[..8], &four(sound_at)[..]].concat(),
            _ => holds.to_vec(),
        };
        boxed(name, &holds)
    });
    parts.flatten().collect()
}
