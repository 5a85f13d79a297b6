package stdio

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
)

// canMeasure says that memoryOf works here.
const canMeasure = true

// memoryOf returns how many bytes of memory of their own the processes of each of the groups have.
func memoryOf(groups map[int]int64) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, d := range dirs {
		if _, err := strconv.Atoi(d.Name()); err != nil {
			continue
		}
		pgrp, ok := groupOf(d.Name())
		if !ok {
			continue
		}
		if _, ours := groups[pgrp]; ours {
			groups[pgrp] += ownMemory(d.Name())
		}
	}
}

// groupOf reads a process's group from /proc/PID/stat: the third field behind the name, which is in parentheses and
// may hold anything.
func groupOf(pid string) (int, bool) {
	data, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 3 {
		return 0, false
	}
	pgrp, err := strconv.Atoi(string(fields[2]))
	return pgrp, err == nil
}

// ownMemory reads resident less shared pages from /proc/PID/statm, in bytes.
func ownMemory(pid string) int64 {
	data, err := os.ReadFile(filepath.Join("/proc", pid, "statm"))
	fields := bytes.Fields(data)
	if err != nil || len(fields) < 3 {
		return 0
	}
	resident, err1 := strconv.ParseInt(string(fields[1]), 10, 64)
	shared, err2 := strconv.ParseInt(string(fields[2]), 10, 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return (resident - shared) * int64(os.Getpagesize())
}
