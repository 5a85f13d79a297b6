package journal

import "crypto/sha256"

// Limits of one batch. A committer freezes a batch before it would pass either; a single event that
// does not fit is refused with ErrTooLarge.
const (
	MaxBatchEvents = 1000
	MaxBatchBytes  = 512 << 10
)

// Digest is the SHA-256 of a stored batch message, all bytes of it.
type Digest [sha256.Size]byte

// DigestOf returns the digest of a stored message.
func DigestOf(data []byte) Digest { return sha256.Sum256(data) }

// Root is the history root: the RFC 6962 Merkle tree hash over the digests of all batches from
// sequence 1 up to some sequence.
type Root [sha256.Size]byte

// Basis is the history that a writer had folded when it froze a batch. Seq zero: none.
type Basis struct {
	Seq  Seq
	Root Root
}

// Header is the readable part of a batch. It is bound to the sealed part as associated data.
type Header struct {
	Journal  ID
	Key      KeyID    // the journal-ring key from which the batch's key is derived
	Writer   WriterID //
	Number   uint64   // counts the writer's batches from 1
	Previous Digest   // of the writer's batch Number-1; zero in its first
	Basis    Basis
	First    Instant // the earliest Event.At inside
	Last     Instant // the latest
	Count    uint32  // events inside
	Refs     RefFilter
	Alike    bool // created events inside may be written as being like others; see EventPacker
}

// Batch is a decoded message: what one writer committed together.
type Batch struct {
	Header
	Events []Event
	// Unknown counts the events of kinds newer than this release, which were skipped.
	// Their places in Events hold Kind zero, so that positions stay true.
	Unknown int
}

// Message is a stored batch as the stream gives it. Data is not changed by anybody, and may be kept.
type Message struct {
	Seq  Seq
	Time Instant // when the stream stored it, by the stream's clock
	Data []byte
}

// Bounds says what a stream holds: First is the sequence of its first message, Last that of its last.
// An empty stream has First = Last + 1.
type Bounds struct {
	First, Last Seq
}
