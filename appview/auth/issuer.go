package auth

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	signing "github.com/golang-jwt/jwt/v5"
)

// Claims of a registry token (Distribution token specification, with auth_method as ATCR adds it).
type Claims struct {
	Issuer     string           `json:"iss"`
	Subject    string           `json:"sub"` // user DID; empty for anonymous
	Audience   jwt.Audience     `json:"aud"`
	Expiry     *jwt.NumericDate `json:"exp"`
	NotBefore  *jwt.NumericDate `json:"nbf"`
	IssuedAt   *jwt.NumericDate `json:"iat"`
	ID         string           `json:"jti"`
	Access     []Access         `json:"access"`
	AuthMethod string           `json:"auth_method,omitempty"`
}

// Anonymous says whether the token was issued without a login.
func (c *Claims) Anonymous() bool { return c.Subject == "" }

// Allows says whether the token grants action on a repository name, as the client wrote it in the path.
func (c *Claims) Allows(repository, action string) bool {
	return c.AllowsOn("repository", repository, action)
}

// AllowsOn is Allows for another type of resource, e.g. "registry", "catalog", "*".
func (c *Claims) AllowsOn(kind, name, action string) bool {
	return slices.ContainsFunc(c.Access, func(a Access) bool {
		return a.Type == kind && a.Name == name && slices.Contains(a.Actions, action)
	})
}

// Issuer signs tokens.
type Issuer struct {
	Keys    *Keys
	Service string        // iss and aud: ATCR_SERVICE_NAME
	Life    time.Duration // ATCR_TOKEN_EXPIRATION
	Now     func() time.Time
}

// Issue makes a token for who.
func (i *Issuer) Issue(who Subject, access []Access) (token string, issued time.Time, err error) {
	now := i.Now().Truncate(time.Second)
	token, err = i.Keys.Set().sign(issuedClaims{
		RegisteredClaims: signing.RegisteredClaims{
			Issuer: i.Service, Audience: signing.ClaimStrings{i.Service}, ID: rand.Text(),
			ExpiresAt: signing.NewNumericDate(now.Add(i.Life)), NotBefore: signing.NewNumericDate(now), IssuedAt: signing.NewNumericDate(now),
		},
		Subject: string(who.DID), Access: access, AuthMethod: who.Method,
	})
	if err != nil {
		return "", now, fmt.Errorf("signing a registry token: %w", err)
	}
	return token, now, nil
}

// issuedClaims are [Claims] as the library that signs wants them.
type issuedClaims struct {
	signing.RegisteredClaims
	Subject    string   `json:"sub"` // there, but empty, in anonymous tokens
	Access     []Access `json:"access"`
	AuthMethod string   `json:"auth_method,omitempty"`
}
