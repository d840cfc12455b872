//! Pictures: generates small ones for buyers who "send a photo", and reads the size of given ones.

/// A one-coloured PNG of 32 × 24 that differs with its seed.
pub(crate) fn generated(seed: u64) -> Vec<u8> {
    const WIDTH: u32 = 32;
    const HEIGHT: u32 = 24;
    let [red, green, blue, ..] = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let row: Vec<u8> =
        std::iter::once(0).chain([red, green, blue].into_iter().cycle().take(WIDTH as usize * 3)).collect();
    let pixels = row.repeat(HEIGHT as usize);
    let mut header = Vec::from(WIDTH.to_be_bytes());
    header.extend(HEIGHT.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut png, *b"IHDR", &header);
    chunk(&mut png, *b"IDAT", &stored(&pixels));
    chunk(&mut png, *b"IEND", &[]);
    png
}

/// Width and height of a PNG, JPEG, GIF or BMP. `None`: other bytes.
pub(crate) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let be = |at: usize, length: usize| {
        let field = bytes.get(at..at + length)?;
        Some(field.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte)))
    };
    let le16 = |at: usize| Some(u32::from(*bytes.get(at)?) | u32::from(*bytes.get(at + 1)?) << 8);
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some((be(16, 4)?, be(20, 4)?));
    }
    if bytes.starts_with(b"GIF8") {
        return Some((le16(6)?, le16(8)?));
    }
    if bytes.starts_with(b"BM") {
        return Some((le16(18)?, le16(22)?));
    }
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return None;
    }
    let mut at = 2;
    loop {
        let marker = be(at, 2)?;
        // The frame header, in any of its kinds, contains the size; every other segment is skipped.
        if (0xffc0..=0xffcf).contains(&marker) && ![0xffc4, 0xffc8, 0xffcc].contains(&marker) {
            return Some((be(at + 7, 2)?, be(at + 5, 2)?));
        }
        if marker < 0xff00 {
            return None;
        }
        at += 2 + be(at + 2, 2)? as usize;
    }
}

/// True if Avito accepts these bytes: JPEG, HEIC, GIF, BMP or PNG.
pub(crate) fn is_picture(bytes: &[u8]) -> bool {
    size(bytes).is_some() || bytes.get(4..8) == Some(b"ftyp") && bytes.get(8..10) == Some(b"he")
}

fn chunk(png: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) {
    png.extend(u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
    let start = png.len();
    png.extend(kind);
    png.extend(data);
    png.extend(crc32(&png[start..]).to_be_bytes());
}

/// A zlib stream of one stored block: our pictures are smaller than its 65,535 bytes.
fn stored(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    let mut stream = vec![0x78, 0x01, 1];
    stream.extend(length.to_le_bytes());
    stream.extend((!length).to_le_bytes());
    stream.extend(data);
    let (a, b) = data.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

fn crc32(data: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !data.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_picture_has_a_size_and_a_colour_of_its_own() {
        assert_eq!(size(&generated(1)), Some((32, 24)));
        assert_ne!(generated(1), generated(2));
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
