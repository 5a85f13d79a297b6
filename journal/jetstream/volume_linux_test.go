package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ramDisk mounts a small filesystem in memory and returns its path.
func ramDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("NOT POSSIBLE ON THIS MACHINE: mount a filesystem of a few megabytes: %v", err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(hung); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if err = unix.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil {
		t.Errorf("unmount %s: %v", dir, err)
	}
}

// volume is an ext4 filesystem on a loop device.
type volume struct {
	dir    string
	device string
}

// makeVolume makes a filesystem in a sparse file and mounts it.
func makeVolume(t *testing.T, image string, bytes int64, options ...string) *volume {
	t.Helper()
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(bytes), f.Close()); err != nil {
		t.Fatal(err)
	}
	if out, err := tool(t, "mkfs.ext4", append(options, "-q", "-m", "0", image)...); err != nil {
		t.Skipf("NOT POSSIBLE ON THIS MACHINE: make a filesystem in a file: %v: %s", err, out)
	}
	device, err := tool(t, "losetup", "--find", "--show", image)
	if err != nil {
		t.Skipf("NOT POSSIBLE ON THIS MACHINE: a loop device: %v: %s", err, device)
	}
	v := &volume{dir: t.TempDir(), device: device}
	t.Cleanup(func() {
		if out, err := tool(t, "losetup", "--detach", device); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	if err := unix.Mount(device, v.dir, "ext4", 0, ""); err != nil {
		t.Skipf("NOT POSSIBLE ON THIS MACHINE: mount a loop device: %v", err)
	}
	t.Cleanup(func() { unmount(t, v.dir) })
	return v
}

func tool(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if path, err := exec.LookPath(filepath.Join("/usr/sbin", name)); err == nil {
		cmd.Path = path
		cmd.Err = nil
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// mountAgain empties the page cache: what is read afterwards is what the device holds.
func (v *volume) mountAgain(t *testing.T) {
	t.Helper()
	unmount(t, v.dir)
	if err := unix.Mount(v.device, v.dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
}

// cutPower drops whatever is not yet on the device, as a power cut does, journal of the filesystem
// included: every later write fails.
func (v *volume) cutPower(t *testing.T) {
	t.Helper()
	const (
		ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
		noLogFlush   = 2
	)
	root, err := os.Open(v.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := unix.IoctlSetPointerInt(int(root.Fd()), ext4Shutdown, noLogFlush); err != nil {
		t.Skipf("NOT POSSIBLE ON THIS MACHINE: shut a filesystem down: %v", err)
	}
}

// fill takes up room on a filesystem; removing the file gives it back.
func fill(t *testing.T, path string, bytes int) {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, bytes), 0o600); err != nil {
		t.Fatal(err)
	}
}
