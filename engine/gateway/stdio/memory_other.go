//go:build !linux

package stdio

// canMeasure says that memoryOf works here.
const canMeasure = false

func memoryOf(map[int]int64) {}
