//go:build !unix

package stdio

import (
	"errors"
	"os/exec"
)

// group is a process group; there are none here.
type group struct{ lost chan struct{} }

func newGroup() (*group, error) {
	return nil, errors.New("children need process groups, which this system has not")
}

func (g *group) id() int        { return 0 }
func (g *group) join(*exec.Cmd) {}
func (g *group) terminate()     {}
func (g *group) kill()          {}
func (g *group) end()           {}
func (g *group) over() bool     { return true }
