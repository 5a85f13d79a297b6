package gateway

import "strconv"

// What a client may have the journal keep of one session. More is refused with an error that says so: a client must not
// let state grow that every replica and every snapshot holds.
const (
	maxSubscriptions     = 1000
	maxSubscriptionBytes = 128 << 10 // of all URIs together
	maxInitialize        = 64 << 10  // of the parameters of initialize
)

// tooMany says what to answer when the body asks for more subscriptions than a session may have; nil when it does not. Requests
// that are under way at once may pass the limit by as many.
func (p *proxy) tooMany(body *payload) *rpcError {
	var count, size int
	for i := range body.msgs {
		if m := &body.msgs[i]; m.method == methodSubscribe && m.kind == kindRequest {
			count, size = count+1, size+len(text(m.params, "uri"))
		}
	}
	if count == 0 {
		return nil
	}
	st, _ := p.s.State()
	count += len(st.Subscriptions)
	for _, uri := range st.Subscriptions {
		size += len(uri)
	}
	if count <= maxSubscriptions && size <= maxSubscriptionBytes {
		return nil
	}
	return &rpcError{Code: codeSubscriptionLimit, Message: "Too many subscriptions: a session may have " +
		strconv.Itoa(maxSubscriptions) + ", with URIs of " + strconv.Itoa(maxSubscriptionBytes) + " bytes in all. Unsubscribe first"}
}
