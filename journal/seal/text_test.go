package seal_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/dormouse-mcp/dormouse/journal"
	"github.com/dormouse-mcp/dormouse/journal/seal"
)

var textKey = [32]byte(bytes.Repeat([]byte("A"), 32))

// What Node's crypto made: createCipheriv("aes-256-gcm", key, iv) with an IV of 16 bytes, 0 to 15,
// then [iv, cipher.getAuthTag(), ciphertext] in base64, joined by colons.
const (
	nodePlain = `[{"sessionId":"s-1","context":{"n8nApiUrl":"https://n8n.example","n8nApiKey":"k€y"}}]`
	nodeText  = "AAECAwQFBgcICQoLDA0ODw==:y4MLQNI+Y/BewWfY0Uewpw==:kmB6EH6HtxgJ0kL1QlJXtOpwU0RJC80LAP+PQ4HRcG/wi/kXAmMs55jlre2QmD5IaWZ1WPHMlnI9YnYnqblMFOj8WHRsJIleIomexnrYsxk6JCpxj6Is"
	nodeEmpty = "AAECAwQFBgcICQoLDA0ODw==:p7EU0mX/YJFFlAmo7ouoYg==:"
)

func TestOpenTextOfNode(t *testing.T) {
	for text, want := range map[string]string{nodeText: nodePlain, nodeEmpty: ""} {
		got, err := seal.OpenText(textKey, text)
		if err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

func TestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		key := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		text, err := seal.SealText(key, plain)
		if err != nil {
			t.Fatal(err)
		}
		got, err := seal.OpenText(key, text)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%x, %v, want %x", got, err, plain)
		}
		key[0] ^= 1
		if got, err := seal.OpenText(key, text); got != nil || !errors.Is(err, journal.ErrWrongKey) {
			t.Fatalf("%x, %v", got, err)
		}
	})
}

func TestTextIsNeverTheSame(t *testing.T) {
	a, _ := seal.SealText(textKey, []byte("x"))
	if b, _ := seal.SealText(textKey, []byte("x")); a == b {
		t.Fatal(a)
	}
}

func TestOpenTextRefuses(t *testing.T) {
	parts := strings.Split(nodeText, ":")
	iv, tag, ciphertext := parts[0], parts[1], parts[2]
	join := func(s ...string) string { return strings.Join(s, ":") }
	for name, text := range map[string]string{
		"nothing":         "",
		"two parts":       join(iv, tag),
		"four parts":      join(iv, tag, ciphertext, ""),
		"empty parts":     "::",
		"IV of 12":        join("AAECAwQFBgcICQoL", tag, ciphertext),
		"IV of 17":        join("AAECAwQFBgcICQoLDA0ODxA=", tag, ciphertext),
		"tag of 12":       join(iv, "AAECAwQFBgcICQoL", ciphertext),
		"no tag":          join(iv, "", ciphertext),
		"hexadecimal":     join("000102030405060708090a0b0c0d0e0f", tag, ciphertext),
		"no padding":      join(strings.TrimRight(iv, "="), tag, ciphertext),
		"URL base64":      join(iv, tag, "-_-_"),
		"line end":        nodeText + "\n",
		"line end inside": join(iv, tag, ciphertext[:4]+"\r\n"+ciphertext[4:]),
		"blank in front":  " " + nodeText,
	} {
		if plain, err := seal.OpenText(textKey, text); plain != nil || !errors.Is(err, journal.ErrMalformed) {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
	}
	if plain, err := seal.OpenText(textKey, join(iv, tag, ciphertext[4:])); plain != nil || !errors.Is(err, journal.ErrWrongKey) {
		t.Errorf("%q, %v", plain, err)
	}
}

// No character of a text can be changed without notice.
func FuzzOpenText(f *testing.F) {
	f.Add(nodeText)
	f.Add(nodeEmpty)
	f.Fuzz(func(t *testing.T, text string) {
		plain, err := seal.OpenText(textKey, text)
		if err == nil && text != nodeText && text != nodeEmpty {
			t.Fatalf("%q opens to %q", text, plain)
		}
	})
}
