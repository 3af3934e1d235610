package kafka

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// scram is the client's side of SCRAM (RFC 5802), without channel binding, for one connection.
type scram struct {
	hash func() hash.Hash

	user, password, bare, nonce string
	expected                    []byte // from the server, at the end
	step                        int
}

var errScram = errors.New("scram: the server's message is not one of this exchange")

// maxIterations bounds what a server may have the client compute.
const maxIterations = 1 << 20

// Begin implements sarama.SCRAMClient.
func (s *scram) Begin(user, password, _ string) error {
	s.user, s.password, s.nonce = strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user), password, rand.Text()
	return nil
}

// Step implements sarama.SCRAMClient.
func (s *scram) Step(challenge string) (string, error) {
	s.step++
	switch s.step {
	case 1:
		s.bare = "n=" + s.user + ",r=" + s.nonce
		return "n,," + s.bare, nil
	case 2:
		return s.prove(challenge)
	}
	got, ok := strings.CutPrefix(challenge, "v=")
	sum, err := base64.StdEncoding.DecodeString(got)
	if !ok || err != nil || subtle.ConstantTimeCompare(sum, s.expected) != 1 {
		return "", errors.New("scram: the server does not know the password")
	}
	return "", nil
}

// Done implements sarama.SCRAMClient.
func (s *scram) Done() bool { return s.step >= 3 }

func (s *scram) prove(challenge string) (string, error) {
	fields := map[byte]string{}
	for field := range strings.SplitSeq(challenge, ",") {
		if len(field) > 2 && field[1] == '=' {
			fields[field[0]] = field[2:]
		}
	}
	salt, err := base64.StdEncoding.DecodeString(fields['s'])
	rounds, errRounds := strconv.Atoi(fields['i'])
	if err != nil || errRounds != nil || rounds < 1 || rounds > maxIterations || !strings.HasPrefix(fields['r'], s.nonce) {
		return "", errScram
	}
	salted, err := pbkdf2.Key(s.hash, s.password, salt, rounds, s.hash().Size())
	if err != nil {
		return "", fmt.Errorf("scram: %w", err)
	}
	clientKey := s.mac(salted, "Client Key")
	stored := s.hash()
	stored.Write(clientKey)
	bare := "c=biws,r=" + fields['r']
	message := s.bare + "," + challenge + "," + bare
	proof := s.mac(stored.Sum(nil), message)
	subtle.XORBytes(proof, proof, clientKey)
	s.expected = s.mac(s.mac(salted, "Server Key"), message)
	return bare + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

func (s *scram) mac(key []byte, message string) []byte {
	m := hmac.New(s.hash, key)
	m.Write([]byte(message))
	return m.Sum(nil)
}
