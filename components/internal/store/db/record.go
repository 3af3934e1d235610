package db

import (
	"encoding/binary"
	"hash/crc32"
)

// A record of the journal is a head and a payload:
//
//	checksum uint32 | length uint32 | sequence uint64 | synced uint64 | payload
//
// Numbers are little-endian. The checksum, CRC-32C, begins with the number of the segment, so that what an earlier use of the
// same file left there is no record of this one. synced is the sequence number up to which all was on the disk when the record
// was written: a reader that finds a place before that unreadable knows that it was damaged, and is not the end.
const recordHead = 24

// entry is a record.
type entry struct {
	seq, synced uint64
	payload     []byte
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(segment uint64, rest []byte) uint32 {
	return crc32.Update(uint32(segment)^uint32(segment>>32), castagnoli, rest)
}

func appendRecord(b []byte, segment uint64, e entry) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.payload)))
	b = binary.LittleEndian.AppendUint64(b, e.seq)
	b = binary.LittleEndian.AppendUint64(b, e.synced)
	b = append(b, e.payload...)
	binary.LittleEndian.PutUint32(b[at:], checksum(segment, b[at+4:]))
	return b
}

// recordAt reads the record that begins at b; n is its length, 0 if there is none.
func recordAt(b []byte, segment uint64) (e entry, n int) {
	if len(b) < recordHead {
		return entry{}, 0
	}
	n = recordHead + int(binary.LittleEndian.Uint32(b[4:]))
	if n > len(b) || binary.LittleEndian.Uint32(b) != checksum(segment, b[4:n]) {
		return entry{}, 0
	}
	return entry{binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]), b[recordHead:n]}, n
}

// promised tells whether a later record in b, anywhere, was written when that of the number seq was on the disk.
func promised(b []byte, segment, seq uint64) bool {
	const far = 1 << 32 // no segment has so many records: most places that are none are told by this
	for ; len(b) >= recordHead; b = b[1:] {
		if s := binary.LittleEndian.Uint64(b[8:]); s <= seq || s-seq > far || binary.LittleEndian.Uint64(b[16:]) < seq {
			continue
		}
		if _, n := recordAt(b, segment); n > 0 {
			return true
		}
	}
	return false
}
