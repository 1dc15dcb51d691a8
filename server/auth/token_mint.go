package auth

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// MintOptions says what a new token claims.
type MintOptions struct {
	Subject   string         // claim sub; "" leaves it out
	Role      string         // the Postgres role; "" leaves it out
	RoleClaim string         // claim that holds the role, always as one name at the top; empty: role
	TTL       time.Duration  // from now to exp, rounded up to seconds; 0: an hour; negative: already expired
	Claims    map[string]any // further claims; they win over those made from the fields above
	Algorithm string         // HS256, HS384 or HS512; empty: HS256
	Now       time.Time      // zero: time.Now
}

// Mint signs a token. It does not ask whether a Verifier would accept it: tests and operators want bad tokens too.
func Mint(secret []byte, o MintOptions) (string, error) {
	if len(secret) == 0 {
		return "", errors.New("mint token: the JWT secret is empty")
	}
	if o.Algorithm == "" {
		o.Algorithm = jwt.SigningMethodHS256.Alg()
	}
	method, ok := jwt.GetSigningMethod(o.Algorithm).(*jwt.SigningMethodHMAC)
	if !ok {
		return "", fmt.Errorf("mint token: %q is not HS256, HS384 or HS512", o.Algorithm)
	}
	signed, err := jwt.NewWithClaims(method, o.claims()).SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	return signed, nil
}

func (o MintOptions) claims() jwt.MapClaims {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.TTL == 0 {
		o.TTL = time.Hour
	}
	if o.RoleClaim == "" {
		o.RoleClaim = "role"
	}
	claims := jwt.MapClaims{
		"iat": o.Now.Unix(),
		"exp": o.Now.Unix() + int64(math.Ceil(o.TTL.Seconds())),
	}
	if o.Subject != "" {
		claims["sub"] = o.Subject
	}
	if o.Role != "" {
		claims[o.RoleClaim] = o.Role
	}
	maps.Copy(claims, o.Claims)
	return claims
}
