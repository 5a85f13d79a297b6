package journal

// The wire form of a batch, described for readers of other languages in docs/format.md:
//
//	version (1 byte) | length of the header (uvarint) | header | nonce | what seal encrypts
//
// The header and the events are Protobuf messages of the schema in journalpb. Reading and writing them is
// the hot path of commit and restore, so it is done here without building a message for each event;
// the tests hold the result against the generated code, in both directions.

// The first byte of every stored batch. In version 2 created events may be like others of the batch; batches without
// such events are still written in version 1.
const (
	Version      = 1
	VersionAlike = 2
)

// MaxPayload is the most bytes that the events of one batch may take before compression, metadata and
// sealed bytes together. A message of that size, with its header, passes a NATS server's default
// limit of 1 MiB. Committers freeze at MaxBatchBytes, far below.
const MaxPayload = 1020 << 10

// Limits of what a reader accepts.
const (
	maxHeader    = 4096
	maxKeyID     = 64
	minRefFilter = 8
	maxRefFilter = 2048
	minEvent     = 4 // tag and length of the event, tag and value of its kind
)

// Wire types of Protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// Tags are a field's number and wire type, as they stand on the wire; see journalpb/journal.proto.
const (
	headerJournal   = 1<<3 | wireBytes
	headerKey       = 2<<3 | wireBytes
	headerWriter    = 3<<3 | wireBytes
	headerNumber    = 4<<3 | wireVarint
	headerPrevious  = 5<<3 | wireBytes
	headerBasisSeq  = 6<<3 | wireVarint
	headerBasisRoot = 7<<3 | wireBytes
	headerFirst     = 8<<3 | wireVarint
	headerLast      = 9<<3 | wireVarint
	headerCount     = 10<<3 | wireVarint
	headerRefs      = 11<<3 | wireBytes

	eventsEvent = 1<<3 | wireBytes

	eventKind        = 1<<3 | wireVarint
	eventRef         = 2<<3 | wireBytes
	eventAt          = 3<<3 | wireVarint
	eventEpoch       = 4<<3 | wireVarint
	eventCall        = 5<<3 | wireVarint
	eventMethod      = 6<<3 | wireBytes
	eventTool        = 7<<3 | wireBytes
	eventOutcome     = 8<<3 | wireVarint
	eventDuration    = 9<<3 | wireVarint
	eventCreated     = 10<<3 | wireBytes
	eventChanged     = 11<<3 | wireBytes
	eventBound       = 12<<3 | wireBytes
	eventBasis       = 13<<3 | wireVarint
	eventReason      = 14<<3 | wireVarint
	eventNote        = 15<<3 | wireBytes
	eventLaterSealed = 16<<3 | wireVarint

	createdSource        = 1<<3 | wireVarint
	createdIDSealed      = 2<<3 | wireVarint
	createdContextSealed = 3<<3 | wireVarint
	createdTenant        = 4<<3 | wireBytes
	createdLabel         = 5<<3 | wireBytes
	createdKey           = 6<<3 | wireBytes
	createdFingerprint   = 7<<3 | wireBytes
	createdURLHash       = 8<<3 | wireBytes
	createdPrincipal     = 9<<3 | wireBytes
	createdInitialize    = 10<<3 | wireBytes
	createdProtocol      = 11<<3 | wireBytes
	createdTimeout       = 12<<3 | wireVarint
	createdCreatedAt     = 13<<3 | wireVarint
	createdLastAccess    = 14<<3 | wireVarint
	createdLike          = 15<<3 | wireVarint
	createdAfter         = 16<<3 | wireVarint
	createdAccessAfter   = 17<<3 | wireVarint

	changedTenant        = 1<<3 | wireBytes
	changedURLHash       = 2<<3 | wireBytes
	changedContextSealed = 3<<3 | wireVarint
	changedKey           = 4<<3 | wireBytes
	changedFingerprint   = 5<<3 | wireBytes
	changedPrincipal     = 6<<3 | wireBytes
	changedInitialize    = 7<<3 | wireBytes
	changedProtocol      = 8<<3 | wireBytes
	changedLogLevel      = 9<<3 | wireBytes
	changedSubscribed    = 10<<3 | wireBytes
	changedUnsubscribed  = 11<<3 | wireBytes

	boundReplica        = 1<<3 | wireBytes
	boundUpstreamSealed = 2<<3 | wireVarint
	boundKey            = 3<<3 | wireBytes

	noteReplica = 1<<3 | wireBytes
	noteVersion = 2<<3 | wireBytes
	noteKinds   = 3<<3 | wireVarint
	noteCount   = 4<<3 | wireVarint
	noteTenant  = 5<<3 | wireBytes
	noteKeys    = 6<<3 | wireBytes
	noteFrom    = 7<<3 | wireVarint
	noteTo      = 8<<3 | wireVarint
	noteWho     = 9<<3 | wireBytes
	noteText    = 10<<3 | wireBytes
)
