package journal

// Purpose says what a Sealed holds. It is bound into the ciphertext, so that one is never taken for another.
type Purpose uint8

// The purposes. The numbers are part of the sealed form and never change.
const (
	PurposeSessionID Purpose = iota + 1
	PurposeContext
	PurposeUpstream
)
