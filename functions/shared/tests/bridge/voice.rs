//! Voice messages out of Avito's MP4, checked with a demuxer and a decoder that share no code with the bridge.

use std::io::Cursor;

use bytes::Bytes;
use opus_decoder::OpusDecoder;
use proptest::prelude::*;
use symphonia::{
    core::{
        formats::{FormatOptions, FormatReader, TrackType},
        io::{MediaSourceStream, MediaSourceStreamOptions},
    },
    default::formats::{IsoMp4Reader, OggReader},
};
use tuberry::bridge::to_telegram::voice::{VoiceError, remux};

/// Mono, frames of 20 ms, 1.3 s.
const VOICE: &[u8] = include_bytes!("../fixtures/voice.mp4");
/// Stereo, frames of 60 ms, 1.05 s, in fragments.
const STEREO: &[u8] = include_bytes!("../fixtures/stereo_fragmented.mp4");
const AAC: &[u8] = include_bytes!("../fixtures/aac.mp4");
const WEBM: &[u8] = include_bytes!("../fixtures/voice.webm");

fn source(bytes: &[u8]) -> MediaSourceStream<'static> {
    MediaSourceStream::new(Box::new(Cursor::new(bytes.to_vec())), MediaSourceStreamOptions::default())
}

fn packets(reader: &mut dyn FormatReader) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet().expect("a readable file") {
        packets.push(packet.data.into_vec());
    }
    packets
}

/// Decodes each packet to its samples.
fn decoded(packets: &[Vec<u8>], channels: usize) -> Vec<Vec<i16>> {
    let mut decoder = OpusDecoder::new(48_000, channels).expect("a decoder");
    let decode = |packet: &Vec<u8>| {
        let mut sound = vec![0; decoder.max_frame_size_per_channel() * channels];
        let samples = decoder.decode(packet, &mut sound, false).expect("a packet of Opus");
        sound.truncate(samples * channels);
        sound
    };
    packets.iter().map(decode).collect()
}

/// Reads the last page's granule position and the pre-skip from their offsets in the file (RFC 3533, RFC 7845).
fn counts(ogg: &[u8]) -> (u64, u64) {
    let number = |from: usize, length: usize| {
        ogg[from..from + length].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let last = ogg.windows(4).rposition(|window| window == b"OggS").expect("a page");
    assert_eq!(ogg[last + 5] & 4, 4, "the last page ends the stream");
    let head = ogg.windows(8).position(|window| window == b"OpusHead").expect("a head");
    assert_eq!(ogg[head + 8], 1, "the version");
    assert_eq!(number(head + 12, 4), 48_000, "the sample rate");
    (number(last + 6, 8), number(head + 10, 2))
}

#[track_caller]
fn sounds_the_same(mp4: &[u8], channels: usize, expected_packets: usize, expected_samples: u64, seconds: u32) {
    let note = remux(Bytes::copy_from_slice(mp4)).expect("a voice note");
    let before = packets(&mut IsoMp4Reader::try_new(source(mp4), FormatOptions::default()).expect("an MP4"));
    let mut reader = OggReader::try_new(source(&note.ogg), FormatOptions::default()).expect("an OGG");
    assert!(reader.default_track(TrackType::Audio).is_some());
    let after = packets(&mut reader);
    assert_eq!((before.len(), after.len()), (expected_packets, expected_packets));
    let (sound, again) = (decoded(&before, channels), decoded(&after, channels));
    assert!(sound.iter().flatten().any(|sample| sample.unsigned_abs() > 1000), "it is not silence");
    assert_eq!(sound, again);
    let (granule, pre_skip) = counts(&note.ogg);
    assert_eq!(granule - pre_skip, expected_samples);
    let all: usize = again.iter().map(|packet| packet.len() / channels).sum();
    assert!(granule <= all as u64 && granule + 5760 > all as u64, "all that is cut off lies within the last packet");
    assert_eq!(note.seconds, seconds);
}

#[test]
fn a_voice_message_keeps_every_packet_and_its_length() {
    sounds_the_same(VOICE, 1, 66, 62_400, 2);
}

#[test]
fn stereo_in_fragments_keeps_every_packet_and_its_length() {
    sounds_the_same(STEREO, 2, 18, 50_400, 2);
}

#[test]
fn pages_hold_about_a_second_so_that_a_player_can_seek() {
    let note = remux(Bytes::from_static(VOICE)).expect("a voice note");
    assert_eq!(note.ogg.windows(4).filter(|window| *window == b"OggS").count(), 4);
}

#[test]
fn a_file_that_is_not_opus_in_a_whole_mp4_is_refused() {
    let refused = |bytes: &[u8]| remux(Bytes::copy_from_slice(bytes)).err();
    assert_eq!(refused(AAC), Some(VoiceError::NotOpus));
    assert_eq!(refused(WEBM), Some(VoiceError::Unreadable));
    assert_eq!(refused(b""), Some(VoiceError::Unreadable));
    let noise: Vec<u8> = (0..4096_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(refused(&noise), Some(VoiceError::Unreadable));
    for cut in (1..VOICE.len()).step_by(37) {
        assert!(refused(&VOICE[..cut]).is_some(), "cut off at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_damaged_file_never_panics_nor_grows_beyond_twice_its_size(
        fragmented in any::<bool>(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = if fragmented { STEREO } else { VOICE }.to_vec();
        for (index, byte) in damages {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        let size = bytes.len();
        if let Ok(note) = remux(bytes.into()) {
            prop_assert!(note.ogg.len() <= 2 * size + 256);
        }
    }
}
