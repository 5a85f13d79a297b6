package journal

import (
	"math"
	"time"
)

func (d *decoder) created(c *Created, fresh bool) {
	defer d.leave(d.enter())
	if fresh && d.more() && d.b[d.i] == createdLike {
		d.i++
		d.alike(c)
		return
	}
	for d.more() {
		switch tag := d.number(); tag {
		case createdSource:
			c.Source = Source(d.small())
		case createdIDSealed:
			d.sizes.id = d.number()
		case createdContextSealed:
			d.sizes.context = d.number()
		case createdTenant:
			d.fixed(c.Tenant[:])
		case createdLabel:
			c.Label = d.text()
		case createdKey:
			c.Key = KeyID(d.text())
		case createdFingerprint:
			d.fixed(c.Fingerprint[:])
		case createdURLHash:
			d.fixed(c.URLHash[:])
		case createdPrincipal:
			c.Principal = Principal(d.text())
		case createdInitialize:
			c.Initialize = d.bytes()
		case createdProtocol:
			c.Protocol = d.text()
		case createdTimeout:
			c.Timeout = time.Duration(d.count(math.MaxInt64/1000000)) * time.Millisecond
		case createdCreatedAt:
			c.CreatedAt = Instant(d.number())
		case createdLastAccess:
			c.LastAccess = Instant(d.number())
		case createdLike:
			d.fail("like another event behind other fields")
		default:
			d.skip(tag)
		}
	}
}

func (d *decoder) changed(c *Changed) {
	defer d.leave(d.enter())
	for d.more() {
		switch tag := d.number(); tag {
		case changedTenant:
			d.fixed(c.Tenant[:])
		case changedURLHash:
			d.fixed(c.URLHash[:])
		case changedContextSealed:
			d.sizes.changed = d.number()
		case changedKey:
			c.Key = KeyID(d.text())
		case changedFingerprint:
			d.fixed(c.Fingerprint[:])
		case changedPrincipal:
			c.Principal = Principal(d.text())
		case changedInitialize:
			c.Initialize = d.bytes()
		case changedProtocol:
			c.Protocol = d.text()
		case changedLogLevel:
			c.LogLevel = d.text()
		case changedSubscribed:
			c.Subscribed = append(c.Subscribed, d.text())
		case changedUnsubscribed:
			c.Unsubscribed = append(c.Unsubscribed, d.text())
		default:
			d.skip(tag)
		}
	}
}

func (d *decoder) bound(b *Bound) {
	defer d.leave(d.enter())
	for d.more() {
		switch tag := d.number(); tag {
		case boundReplica:
			b.Replica = ReplicaID(d.text())
		case boundUpstreamSealed:
			d.sizes.upstream = d.number()
		case boundKey:
			b.Key = KeyID(d.text())
		default:
			d.skip(tag)
		}
	}
}

func (d *decoder) note(n *Note) {
	defer d.leave(d.enter())
	for d.more() {
		switch tag := d.number(); tag {
		case noteReplica:
			n.Replica = ReplicaID(d.text())
		case noteVersion:
			n.Version = d.text()
		case noteKinds:
			n.Kinds = Kind(d.small())
		case noteCount:
			n.Count = d.number()
		case noteTenant:
			d.fixed(n.Tenant[:])
		case noteKeys:
			n.Keys = append(n.Keys, KeyID(d.text()))
		case noteFrom:
			n.From = Seq(d.number())
		case noteTo:
			n.To = Seq(d.number())
		case noteWho:
			n.Who = d.text()
		case noteText:
			n.Text = d.text()
		default:
			d.skip(tag)
		}
	}
}
