package store

import "errors"

var (
	// ErrNoFolder says that there is no data folder. Start `dormouse serve`, or name another.
	ErrNoFolder = errors.New("no data folder")

	// ErrInUse says that another process has the folder open. Stop it, or take another folder.
	ErrInUse = errors.New("the data folder is in use")

	// ErrOtherJournal says that the journal is not the one that this folder has had: it was replaced or is gone.
	// Nothing was changed. Bring the right one back, or start on another folder.
	ErrOtherJournal = errors.New("not the journal that was here")

	// ErrNoKeys says that there is a journal, but no keyring that could read it. Bring the keys back.
	ErrNoKeys = errors.New("the keyring is missing")

	// ErrNaming says that the keyring's naming key is not the one that made the names of this journal's tenants. Bring the
	// key file that belongs here, all of it.
	ErrNaming = errors.New("not the naming key of this journal")

	// ErrEnvironment says that the environment's DORMOUSE_KEYS holds no keyring. Correct or unset it.
	ErrEnvironment = errors.New("DORMOUSE_KEYS")
)
