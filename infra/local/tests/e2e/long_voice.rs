//! A voice message of any length: a short one whose sound is repeated.

/// Builds a box of an MP4 file: its size, its name, its content (ISO/IEC 14496-12, 4.2).
fn boxed(name: &[u8], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 8).expect("a small box");
    [&size.to_be_bytes(), name, content].concat()
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

fn number(bytes: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

fn four(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("a small file").to_be_bytes()
}

/// Repeats the sound of `voice`, an MP4 file with one track in one piece, `times` times.
pub(crate) fn repeated(voice: &[u8], times: usize) -> Vec<u8> {
    let whole = boxes(voice);
    let find = |name: &[u8]| whole.iter().find(|(found, _)| *found == name).expect("a box").1;
    let head = boxed(b"ftyp", find(b"ftyp"));
    let sound = boxed(b"mdat", &find(b"mdat").repeat(times));
    let tables = boxed(b"moov", &tables(find(b"moov"), times, head.len() + 8));
    [head, sound, tables].concat()
}

/// Rewrites the tables that locate the packets, for all of them in one chunk at `sound_at`.
fn tables(content: &[u8], times: usize, sound_at: usize) -> Vec<u8> {
    let parts = boxes(content).into_iter().map(|(name, content)| {
        let content = match name {
            b"trak" | b"mdia" | b"minf" | b"stbl" => tables(content, times, sound_at),
            b"stts" => {
                [&content[..4], &four(number(content, 4) as usize * times), &content[8..].repeat(times)].concat()
            }
            b"stsz" => {
                [&content[..8], &four(number(content, 8) as usize * times), &content[12..].repeat(times)].concat()
            }
            b"stsc" => [&content[..12], &four(number(content, 12) as usize * times), &content[16..]].concat(),
            b"stco" => [&content[..8], &four(sound_at)[..]].concat(),
            _ => content.to_vec(),
        };
        boxed(name, &content)
    });
    parts.flatten().collect()
}
