// Package seal keeps secrets: the keyring of a deployment, the encryption of batches, and the data keys
// of tenants.
//
// A [Keyring] holds two independent rings and a naming key. The journal ring opens batches: a replica
// folds and an auditor reads with it alone. The tenant ring wraps the tenants' data keys: without it no
// session ID, upstream session or instance context can be opened. The naming key makes keyed hashes,
// such as tenant IDs.
//
//   - [BatchSealer] and [BatchOpener] turn batches into stored messages and back.
//   - [Vault] seals and opens what belongs to one tenant, under data keys that it keeps, wrapped, in a
//     [KeyStore]; erasing those erases the tenant.
//   - [SealText] and [OpenText] are the encrypted text form of exported sessions.
//
// Nothing that fails to open is ever returned in part: it is [journal.ErrKeyMissing],
// [journal.ErrWrongKey] or [journal.ErrMalformed]. The forms are described in docs/format.md.
package seal
