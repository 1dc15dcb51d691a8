// Package authtest signs tokens and writes key sets for tests, by itself: the code under test takes no part in it.
package authtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes
	_ "crypto/sha512" // of algorithms
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
)

// TB is what is needed of a test.
type TB interface {
	Helper()
	Fatal(args ...any)
}

// Key is a private key with a name.
type Key struct {
	t      TB
	Kid    string
	Signer crypto.Signer
}

// Load reads a key of testdata/jwks: rsa, p256, p384, p521 or ed25519. Everybody has them: they sign nothing but tests.
func Load(t TB, name, kid string) Key {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "testdata", "jwks", name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM in " + name)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return Key{t, kid, key.(crypto.Signer)}
}

// root is where go.mod is.
func root(t TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
}

var encode = base64.RawURLEncoding.EncodeToString

// JWK is the public half; more members are added, or replace those that there are; nil removes one.
func (k Key) JWK(more map[string]any) map[string]any {
	k.t.Helper()
	jwk := map[string]any{"kid": k.Kid, "use": "sig"}
	switch public := k.Signer.Public().(type) {
	case *rsa.PublicKey:
		jwk["kty"], jwk["n"], jwk["e"] = "RSA", encode(public.N.Bytes()), encode(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			k.t.Fatal(err)
		}
		half := len(point) / 2
		jwk["kty"], jwk["crv"], jwk["x"], jwk["y"] = "EC", public.Curve.Params().Name, encode(point[1:half+1]), encode(point[half+1:])
	case ed25519.PublicKey:
		jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", encode(public)
	}
	for name, value := range more {
		if jwk[name] = value; value == nil {
			delete(jwk, name)
		}
	}
	return jwk
}

// Set is the text of a key set.
func Set(keys ...map[string]any) string {
	if keys == nil {
		keys = []map[string]any{}
	}
	text, _ := json.Marshal(map[string]any{"keys": keys}) // always encodes
	return string(text)
}

// Token signs claims as alg says, under a header with alg and the kid.
func (k Key) Token(alg, claims string) string {
	k.t.Helper()
	return k.Sign(alg, fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"JWT"}`, alg, k.Kid), claims)
}

// Sign signs any two texts as alg says, whatever the header says.
func (k Key) Sign(alg, header, claims string) string {
	k.t.Helper()
	text := encode([]byte(header)) + "." + encode([]byte(claims))
	var signature []byte
	var err error
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[strings.TrimLeft(alg, "RSEP")]
	digest := []byte(text)
	if hash != 0 {
		h := hash.New()
		h.Write(digest)
		digest = h.Sum(nil)
	}
	switch key := k.Signer.(type) {
	case *ecdsa.PrivateKey:
		r, s, failed := ecdsa.Sign(rand.Reader, key, digest)
		if failed != nil {
			k.t.Fatal(failed)
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		signature = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	default:
		signature, err = key.Sign(rand.Reader, digest, hash)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return text + "." + encode(signature)
}
