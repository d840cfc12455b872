//! A voice message for Telegram: Opus is taken out of Avito's MP4 and put into OGG as it is, without transcoding.
//! Bytes go in, bytes come out. The sizes that a file declares are checked against its bytes.

use std::io::Cursor;

use bytes::Bytes;
use ogg::{PacketWriteEndInfo, PacketWriter};
use symphonia::{
    core::{
        codecs::audio::well_known::CODEC_ID_OPUS,
        formats::{FormatReader, Track, TrackType},
        io::MediaSourceStream,
        packet::Packet,
        units::TimeBase,
    },
    default::formats::IsoMp4Reader,
};

/// A voice note as Telegram takes it.
pub struct VoiceNote {
    /// OGG with Opus.
    pub ogg: Vec<u8>,
    /// The length in seconds, rounded up.
    pub seconds: u32,
}

/// The reason for which a file is no voice note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoiceError {
    /// The file is no MP4, or not a whole one.
    #[error("the file is not a whole MP4")]
    Unreadable,
    /// The sound is not Opus in one or two channels.
    #[error("the sound is not Opus in one or two channels")]
    NotOpus,
}

/// The number of the file's only stream. Any number would do.
const SERIAL: u32 = 1;
/// The sample rate of all counts of Opus (RFC 7845, section 4).
const RATE: u64 = 48_000;
/// The samples after which a page ends, so that a player can seek: about one second.
const PAGE: u64 = RATE;
/// The most samples of a packet: 120 ms (RFC 6716, section 3.2.5).
const MAX_PACKET_SAMPLES: u64 = 5760;
/// The most bytes of a packet: 48 frames of at most 1,275 bytes, with their lengths (RFC 6716, section 3.4).
const MAX_PACKET_BYTES: usize = 61_440;
/// The length of an identification header without a channel table (RFC 7845, section 5.1).
const HEAD: usize = 19;
const VENDOR: &[u8] = b"tuberry";

/// Takes the Opus packets out of `mp4` and puts them into OGG.
///
/// The reader expects sizes that agree with each other, and may panic if they do not. The panic is caught, because no
/// file from outside may end a worker.
pub fn remux(mp4: Bytes) -> Result<VoiceNote, VoiceError> {
    std::panic::catch_unwind(|| repack(mp4)).unwrap_or(Err(VoiceError::Unreadable))
}

fn repack(mp4: Bytes) -> Result<VoiceNote, VoiceError> {
    let size = mp4.len();
    let source =
        MediaSourceStream::new(Box::new(Cursor::new(mp4)), symphonia::core::io::MediaSourceStreamOptions::default());
    let mut reader = IsoMp4Reader::try_new(source, symphonia::core::formats::FormatOptions::default())
        .map_err(|_| VoiceError::Unreadable)?;
    let track = reader.default_track(TrackType::Audio).ok_or(VoiceError::NotOpus)?;
    let (track_id, time_base, head) = (track.id, track.time_base, head(track)?);
    let mut stream = Stream::begin(&head, size)?;
    // The last packet is written differently, so each packet waits until the next is read.
    let mut waiting: Option<(Box<[u8]>, u64)> = None;
    while let Some(packet) = reader.next_packet().map_err(|_| VoiceError::Unreadable)? {
        if packet.track_id != track_id {
            stream.count_bytes(&packet.data)?;
            continue;
        }
        let samples = samples(&packet.data).ok_or(VoiceError::NotOpus)?;
        stream.count_packet(&packet, time_base)?;
        if let Some((data, samples)) = waiting.replace((packet.data, samples)) {
            stream.write(data, samples)?;
        }
    }
    let (data, samples) = waiting.ok_or(VoiceError::Unreadable)?;
    stream.end(data, samples)
}

/// Returns the identification header in OGG's form. MP4 has the same fields with their bytes in the opposite order.
fn head(track: &Track) -> Result<[u8; HEAD], VoiceError> {
    let audio = track.codec_params.as_ref().and_then(|params| params.audio()).ok_or(VoiceError::NotOpus)?;
    if audio.codec != CODEC_ID_OPUS {
        return Err(VoiceError::NotOpus);
    }
    let mut head: [u8; HEAD] =
        audio.extra_data.as_deref().and_then(|data| data.try_into().ok()).ok_or(VoiceError::NotOpus)?;
    let (channels, mapping) = (head[9], head[18]);
    if !head.starts_with(b"OpusHead") || !(1..=2).contains(&channels) || mapping != 0 {
        return Err(VoiceError::NotOpus);
    }
    head[8] = 1;
    head[10..12].reverse();
    head[12..16].reverse();
    head[16..18].reverse();
    Ok(head)
}

/// Returns the number of samples that a packet's first bytes declare (RFC 6716, section 3.1). None: it is no packet of
/// Opus.
fn samples(packet: &[u8]) -> Option<u64> {
    let toc = *packet.first().filter(|_| packet.len() <= MAX_PACKET_BYTES)?;
    let config = toc >> 3;
    let frame = match config {
        0..12 => [480, 960, 1920, 2880][usize::from(config & 3)],
        12..16 => [480, 960][usize::from(config & 1)],
        _ => 120 << (config & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1)? & 0x3f),
    };
    Some(frame * frames).filter(|samples| (1..=MAX_PACKET_SAMPLES).contains(samples))
}

/// The OGG file being written.
struct Stream {
    writer: PacketWriter<'static, Vec<u8>>,
    pre_skip: u64,
    /// The samples written so far.
    granule: u64,
    /// The sample at which the open page began.
    page_began: u64,
    /// The samples of all packets, as the MP4 declares them. None: its times cannot be converted.
    declared: Option<u64>,
    /// The bytes that packets may still have. The limit is the file's size, because its tables may name the same bytes
    /// again and again.
    left: usize,
}

impl Stream {
    fn begin(head: &[u8; HEAD], size: usize) -> Result<Self, VoiceError> {
        let pre_skip = u64::from(u16::from_le_bytes([head[10], head[11]]));
        let mut tags = b"OpusTags".to_vec();
        tags.extend(u32::try_from(VENDOR.len()).unwrap_or_default().to_le_bytes());
        tags.extend(VENDOR);
        tags.extend(0_u32.to_le_bytes());
        let mut writer = PacketWriter::new(Vec::with_capacity(size));
        for header in [head.to_vec(), tags] {
            writer.write_packet(header, SERIAL, PacketWriteEndInfo::EndPage, 0).map_err(|_| VoiceError::Unreadable)?;
        }
        Ok(Self { writer, pre_skip, granule: 0, page_began: 0, declared: Some(0), left: size })
    }

    /// Counts a packet against the size of the file. An empty packet counts as one byte, so that the reading ends too.
    fn count_bytes(&mut self, data: &[u8]) -> Result<(), VoiceError> {
        let left = self.left.checked_sub(data.len().max(1));
        self.left = left.ok_or(VoiceError::Unreadable)?;
        Ok(())
    }

    fn count_packet(&mut self, packet: &Packet, time_base: Option<TimeBase>) -> Result<(), VoiceError> {
        self.count_bytes(&packet.data)?;
        let samples = || {
            let base = time_base?;
            let ticks = u128::from(packet.dur.get()) * u128::from(base.numer.get()) * u128::from(RATE);
            u64::try_from(ticks / u128::from(base.denom.get())).ok()
        };
        self.declared = self.declared.and_then(|declared| declared.checked_add(samples()?));
        Ok(())
    }

    fn write(&mut self, data: Box<[u8]>, samples: u64) -> Result<(), VoiceError> {
        self.granule += samples;
        let page_is_full = self.granule - self.page_began >= PAGE;
        let end = if page_is_full { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
        if page_is_full {
            self.page_began = self.granule;
        }
        self.put(data, end, self.granule)
    }

    /// Writes the last packet. If the MP4 ends within it, the last page's count cuts off the remaining samples.
    fn end(mut self, data: Box<[u8]>, samples: u64) -> Result<VoiceNote, VoiceError> {
        let whole = self.granule + samples;
        let end = self.declared.filter(|declared| (self.granule + 1..=whole).contains(declared)).unwrap_or(whole);
        self.put(data, PacketWriteEndInfo::EndStream, end)?;
        let seconds = end.saturating_sub(self.pre_skip).div_ceil(RATE).max(1);
        Ok(VoiceNote { ogg: self.writer.into_inner(), seconds: u32::try_from(seconds).unwrap_or(u32::MAX) })
    }

    fn put(&mut self, data: Box<[u8]>, end: PacketWriteEndInfo, granule: u64) -> Result<(), VoiceError> {
        self.writer.write_packet(data.into_vec(), SERIAL, end, granule).map_err(|_| VoiceError::Unreadable)
    }
}
