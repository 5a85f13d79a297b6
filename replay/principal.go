package replay

import "github.com/dormouse-mcp/dormouse/journal"

// PrincipalLen returns how many sessions of a principal are present. It costs a look at every profile: sessions that agree in
// tenant, principal, parameters and the like share one, but where each has a principal of its own there are as many as
// sessions (10,000 of them take well under a millisecond).
func (s *State) PrincipalLen(p journal.Principal) (n int) {
	for _, x := range s.directory.profiles.list[1:] {
		if x != nil && x.principal == p {
			n += x.sessions
		}
	}
	return n
}
