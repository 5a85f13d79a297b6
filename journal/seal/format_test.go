package seal_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/journalpb"
	"github.com/dormouse-mcp/dormouse/journal/memory"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

// page is docs/format.md: its named blocks.
type page map[string]string

func formatPage(t *testing.T) page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "format.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := page{}
	for i, part := range strings.Split(string(text), "```") {
		info, body, _ := strings.Cut(part, "\n")
		if _, name, ok := strings.Cut(info, " "); ok && i%2 == 1 {
			p[name] = body
		}
	}
	return p
}

func (p page) hex(t *testing.T, name string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(p[name]), ""))
	if err != nil || len(b) == 0 {
		t.Fatalf("block %q: %x, %v", name, b, err)
	}
	return b
}

func (p page) is(t *testing.T, name string, got []byte) {
	t.Helper()
	if want := p.hex(t, name); !bytes.Equal(got, want) {
		t.Fatalf("%s is %x, the page says %x", name, got, want)
	}
}

// key reads a line of the keyring.
func (p page) key(t *testing.T, prefix string) []byte {
	t.Helper()
	for line := range strings.Lines(p["keyring"]) {
		if rest, ok := strings.CutPrefix(line, prefix+" "); ok {
			key, err := base64.StdEncoding.DecodeString(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return key
		}
	}
	t.Fatalf("no key %s", prefix)
	return nil
}

func gcm(t *testing.T, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

func opened(t *testing.T, key, nonce, sealed, bound []byte) []byte {
	t.Helper()
	plain, err := gcm(t, key).Open(nil, nonce, sealed, bound)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func lp(parts ...string) (b []byte) {
	for _, p := range parts {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(p))), p...)
	}
	return b
}

func mac(key []byte, what string, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(what + "\x00"))
	h.Write(lp(parts...))
	return h.Sum(nil)
}

func sum(parts ...[]byte) []byte {
	d := sha256.Sum256(bytes.Join(parts, nil))
	return d[:]
}

const (
	pageSession = "1b671a64-40d5-491e-99b0-da01ff1f3341"
	pageKey     = "d6cfdb00849d7ebc6"
)

// A reader that knows nothing but the page, written with the standard library and the Protobuf schema.
func TestFormatPage(t *testing.T) {
	p := formatPage(t)
	tenant, ref := p.hex(t, "tenant"), p.hex(t, "ref")
	p.is(t, "tenant", mac(p.key(t, "naming"), "dormouse name v1", "tenant", "https://n8n.example", "42")[:16])
	p.is(t, "ref", sum([]byte("dormouse session ref v1\x00"), []byte(pageSession))[:16])

	wrapped := p.hex(t, "wrapped-key")
	bound := append([]byte("dormouse wrapped key v1\x00"), lp(string(tenant), pageKey, "t1")...)
	dataKey := opened(t, p.key(t, "tenant t1"), wrapped[1:13], wrapped[13:], bound)
	p.is(t, "fingerprint", mac(dataKey, "dormouse key fingerprint v1", string(tenant), pageKey)[:8])

	msg := p.hex(t, "message-1")
	head := 2 + int(msg[1])
	var h journalpb.Header
	if err := proto.Unmarshal(msg[2:head], &h); err != nil {
		t.Fatal(err)
	}
	batchKey, err := hkdf.Key(sha256.New, p.key(t, "journal "+h.GetKey()), h.GetWriter(), "dormouse batch key v1", 32)
	if err != nil {
		t.Fatal(err)
	}
	p.is(t, "batch-key", batchKey)
	plain := opened(t, batchKey, msg[head:head+12], msg[head+12:], msg[:head])
	size, n := binary.Uvarint(plain)
	if size&1 != 0 {
		t.Fatal("the page says that the metadata is plain")
	}
	meta, region := plain[n:n+int(size>>1)], plain[n+int(size>>1):]
	p.is(t, "metadata", meta)
	var events journalpb.Events
	if err := proto.Unmarshal(meta, &events); err != nil || len(events.GetEvents()) != 2 {
		t.Fatal(&events, err)
	}
	created := events.GetEvents()[0].GetCreated()
	id, context := region[:created.GetIdSealed()], region[created.GetIdSealed():]
	p.is(t, "sealed-id", id)
	p.is(t, "sealed-context", context)
	if len(context) != int(created.GetContextSealed()) {
		t.Fatal("the lengths do not sum up")
	}
	for purpose, field := range map[byte]struct {
		sealed []byte
		want   string
	}{1: {id, pageSession}, 2: {context, strings.TrimSpace(p["context"])}} {
		bound := bytes.Join([][]byte{{1, purpose}, ref, tenant, []byte(pageKey)}, nil)
		if got := opened(t, dataKey, field.sealed[1:13], field.sealed[13:], bound); string(got) != field.want {
			t.Fatalf("purpose %d: %s", purpose, got)
		}
	}

	var third journalpb.Events
	if err := proto.Unmarshal(p.hex(t, "alike"), &third); err != nil || third.GetEvents()[0].GetCreated().GetLike() != 2 {
		t.Fatal(&third, err)
	}

	leaf1 := sum([]byte{0}, sum(msg))
	p.is(t, "digest-1", sum(msg))
	p.is(t, "root-1", leaf1)
	p.is(t, "root-2", sum([]byte{1}, leaf1, sum([]byte{0}, sum(p.hex(t, "message-2")))))
}

// This release reads the page's third event, which is like the first.
func TestFormatPageAlike(t *testing.T) {
	p := formatPage(t)
	h := &journal.Header{Number: 1, First: 1000, Last: 1250, Count: 3, Alike: true}
	sealed := bytes.Repeat(append(p.hex(t, "sealed-id"), p.hex(t, "sealed-context")...), 2)
	b, err := journal.DecodeEvents(h, append(p.hex(t, "metadata"), p.hex(t, "alike")...), sealed)
	if err != nil {
		t.Fatal(err)
	}
	want := *b.Events[0].Created
	want.CreatedAt, want.LastAccess = 1200, 1200
	if got := b.Events[2]; got.At != 1200 || !reflect.DeepEqual(*got.Created, want) {
		t.Fatalf("%+v %+v", got, got.Created)
	}
}

// This release reads the page's messages and keys as the page says.
func TestFormatPageIsRead(t *testing.T) {
	p := formatPage(t)
	k := keyring(t, p["keyring"])
	o := seal.NewBatchOpener(k)
	one, err := o.Open(p.hex(t, "message-1"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := o.Open(p.hex(t, "message-2"))
	if err != nil {
		t.Fatal(err)
	}
	if two.Number != 2 || hex.EncodeToString(two.Previous[:]) != strings.TrimSpace(p["digest-1"]) ||
		two.Basis != (journal.Basis{Seq: 1, Root: journal.Root(p.hex(t, "root-1"))}) || two.Events[0].Kind != journal.KindTouched {
		t.Fatalf("%+v", two)
	}
	e := one.Events[0]
	c := e.Created
	if one.First.String() != "2026-11-22T12:00:00.000Z" || one.Last != one.First+250 || one.Journal.String() != "000102030405060708090a0b0c0d0e0f" ||
		e.Ref != journal.SessionID(pageSession).Ref() || c.Key != pageKey || !one.Refs.MayHold(e.Ref) ||
		!bytes.Equal(c.Fingerprint[:], p.hex(t, "fingerprint")) || one.Events[1].Call.Method != "tools/list" {
		t.Fatalf("%+v %+v", one, c)
	}
	keys := &memory.Keys{}
	if err := keys.Create(t.Context(), seal.KeyName{Tenant: c.Tenant, Key: c.Key, Wrap: "t1"}, p.hex(t, "wrapped-key")); err != nil {
		t.Fatal(err)
	}
	v := seal.NewVault(k, keys)
	if err := v.Check(t.Context(), c.Tenant, c.Key, c.Fingerprint); err != nil {
		t.Fatal(err)
	}
	for purpose, field := range map[journal.Purpose]struct {
		sealed journal.Sealed
		want   string
	}{journal.PurposeSessionID: {c.ID, pageSession}, journal.PurposeContext: {c.Context, strings.TrimSpace(p["context"])}} {
		got, err := v.Open(t.Context(), c.Tenant, c.Key, purpose, e.Ref, field.sealed)
		if err != nil || string(got) != field.want {
			t.Fatalf("%q, %v", got, err)
		}
	}
}
