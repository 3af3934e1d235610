package dtm

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dtm-labs/client/dtmgrpc/dtmgpb"
	"github.com/fxamacker/cbor/v2"

	"github.com/outrigger-mesh/outrigger/components"
	"github.com/outrigger-mesh/outrigger/components/transaction"
)

// What DTM's stores have room for.
const (
	maxGID      = 128
	maxCustom   = 1024
	maxBranches = 499 // the store in a file loses the order of more than 1000 records, two a branch,
	maxTried    = 333 // or three, of a TCC
)

// Marks are transactions of their own that say something of the one whose gid they follow, since DTM has no place for it.
const (
	abortMark  = "/a/" // a saga that is to be rolled back
	givenUp    = "/g/"
	markLength = len(abortMark)
)

// gidOf is DTM's gid for a key: what branches are told, behind the prefix, without what DTM does not bear in a gid. It ends with a slash, so that none is
// how another one begins: the store in a file takes branches of the one for those of the other.
func (d *driver) gidOf(key string) (string, error) {
	at := strings.LastIndexByte(key, '/') + 1
	gid := d.base() + key[:at] + url.PathEscape(key[at:]) + "/"
	if len(gid)+markLength > maxGID {
		return "", components.WithReason(fmt.Errorf("%w: the gid %q takes %d bytes in DTM, which has %d: choose a shorter one", components.ErrInvalid,
			gid, len(gid)+markLength, maxGID), transaction.ReasonInvalid)
	}
	return gid, nil
}

// base is what all gids of the component begin with.
func (d *driver) base() string {
	base := transaction.Told(d.id.Name, "")
	if d.options.Prefix != "" {
		base = d.options.Prefix + ":" + base
	}
	return base
}

// keyOf is the key of a gid of DTM's; false: it is none of the component's transactions.
func (d *driver) keyOf(gid string) (string, bool) {
	rest, ours := strings.CutPrefix(gid, d.base())
	rest, ends := strings.CutSuffix(rest, "/")
	parts := strings.Split(rest, "/")
	if !ours || !ends || len(parts) != 3 || strings.Contains(parts[0], ":") {
		return "", false
	}
	name, err := url.PathUnescape(parts[2])
	return parts[0] + "/" + parts[1] + "/" + name, err == nil
}

// application is NAMESPACE/APP/ of a key.
func application(key string) string { return key[:strings.LastIndexByte(key, '/')+1] }

const macSize = 16

// mac is what only those can make who know the token.
func (d *driver) mac(gid string, body []byte) []byte {
	h := hmac.New(sha256.New, d.secret)
	fmt.Fprintf(h, "%d %s ", len(gid), gid)
	h.Write(body)
	return h.Sum(nil)[:macSize]
}

const service = "/outrigger.dtm/"

// url is what DTM is told to call for a transaction. Only who has read it, or knows the token, can call that.
func (d *driver) url(gid string) string { return d.callback() + d.path(gid) }

func (d *driver) path(gid string) string {
	return service + base64.RawURLEncoding.EncodeToString(d.mac(gid, nil))
}

func (d *driver) callback() string {
	if d.options.Callback != "" {
		return d.options.Callback
	}
	return d.options.Listen
}

var encoding, _ = cbor.EncOptions{Sort: cbor.SortCanonical}.EncMode()

// once stands before a branch whose compensation has the same data as its action, which is there once then. CBOR does not begin so: a version that does not
// know of it refuses the branch, and does not call the compensation without data.
const once = 0xff

// seal makes of a branch what DTM hands back with each call of it: nobody else can say what is called. It should be short: DTM keeps it twice, and writes it anew
// with each change.
func (d *driver) seal(gid string, b *transaction.Branch) ([]byte, error) {
	same := len(b.Do.Data) > 0 && bytes.Equal(b.Do.Data, b.Undo.Data)
	if same {
		short := *b
		short.Undo.Data = nil
		b = &short
	}
	body, err := encoding.Marshal(b)
	if same {
		body = append([]byte{once}, body...)
	}
	return append(d.mac(gid, body), body...), err
}

var errForged = errors.New("it is not what this component has handed to DTM: another token, or another sender")

func (d *driver) unseal(gid string, sealed []byte) (b transaction.Branch, err error) {
	if len(sealed) <= macSize || !hmac.Equal(sealed[:macSize], d.mac(gid, sealed[macSize:])) {
		return b, errForged
	}
	body, same := bytes.CutPrefix(sealed[macSize:], []byte{once})
	if err = cbor.Unmarshal(body, &b); same {
		b.Undo.Data = b.Do.Data
	}
	return b, err
}

// custom is what DTM keeps with a transaction. It looks at the first two itself.
type custom struct {
	Orders     map[int][]int `json:"orders,omitempty"`
	Concurrent bool          `json:"concurrent,omitempty"`
	Ours       ours          `json:"outrigger"`
}

type ours struct {
	Digest string           `json:"digest"` // of the content
	Policy [4]time.Duration `json:"policy"`
	Trace  string           `json:"trace,omitempty"` // the traceparent of who began it
	By     string           `json:"by,omitempty"`    // of a TCC, the process that began it
}

func customOf(c *transaction.Content, by string) (text string, err error) {
	p := c.Policy
	out := custom{Ours: ours{Digest: digest(c), Policy: [4]time.Duration{p.Timeout, p.CallTimeout, p.FirstPause, p.LongPause}, Trace: c.Trace[traceparent]}}
	if len(out.Ours.Trace) > maxTrace {
		out.Ours.Trace = "" // it is none
	}
	switch c.Kind {
	case transaction.Saga:
		out.order(c.Branches)
	case transaction.TCC:
		out.Ours.By = by
	}
	b, err := json.Marshal(out)
	if len(b) > maxCustom {
		err = transaction.TooLarge("order", "what comes after what takes %d bytes in DTM, which has %d: name fewer, or put the steps in one line", len(b), maxCustom)
	}
	return string(b), err
}

// order says what comes after what, if it is not each step after the one before.
func (c *custom) order(branches []transaction.Branch) {
	at := make(map[string]int, len(branches))
	for i, b := range branches {
		at[b.ID] = i
		if line := i == 0 && len(b.After) == 0 || i > 0 && len(b.After) == 1 && b.After[0] == branches[i-1].ID; !line {
			c.Concurrent = true
		}
	}
	if !c.Concurrent {
		return
	}
	for i, b := range branches {
		for _, id := range b.After {
			if c.Orders == nil {
				c.Orders = map[int][]int{}
			}
			c.Orders[i] = append(c.Orders[i], at[id])
		}
	}
}

// digest is the same for the same content; branches of TCC are not part of it.
func digest(c *transaction.Content) string {
	same := *c
	same.Trace, same.Policy = nil, transaction.Policy{} // there is what was said of it
	b, err := encoding.Marshal(&same)
	if err != nil {
		panic(err) // strings, bytes and numbers
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

const (
	traceparent = "traceparent"
	maxTrace    = 64 // bytes
)

// trace is what the calls of branches carry.
func (o *ours) trace() map[string]string {
	if o.Trace == "" {
		return nil
	}
	return map[string]string{traceparent: o.Trace}
}

func readCustom(text string) (c custom, p transaction.Policy, err error) {
	if err = json.Unmarshal([]byte(text), &c); err == nil && c.Ours.Digest == "" {
		err = errors.New("it was not begun by this driver")
	}
	o := c.Ours.Policy
	return c, transaction.Policy{Timeout: o[0], CallTimeout: o[1], FirstPause: o[2], LongPause: o[3]}, err
}

// DTM's words for operations.
const (
	actionOp     = "action"
	compensateOp = "compensate"
	confirmOp    = "confirm"
	cancelOp     = "cancel"
	checkOp      = "msg"
	triedOp      = "tried" // a record of ours: the try of a branch was OK
)

var operations = map[string]string{actionOp: transaction.OpAction, compensateOp: transaction.OpCompensation, confirmOp: transaction.OpConfirm,
	cancelOp: transaction.OpCancel, checkOp: transaction.OpCheck}

// DTM's words for where transactions and branches are.
const (
	statusPrepared  = "prepared"
	statusSubmitted = "submitted"
	statusAborting  = "aborting"
	statusSucceed   = "succeed"
	statusFailed    = "failed"
)

// firstLook is when DTM looks at what waits for a commit, at the latest: it is asked to look when the deadline passes, or after this.
const firstLook = 10

// transOptions are DTM's for a transaction, in seconds.
func (d *driver) transOptions(kind transaction.Kind, open bool, p transaction.Policy, wait bool) *dtmgpb.DtmTransOptions {
	o := &dtmgpb.DtmTransOptions{WaitResult: wait, TimeoutToFail: seconds(p.Timeout), RetryInterval: int64(d.options.RetryInterval / time.Second),
		RequestTimeout: seconds(p.CallTimeout) + 1}
	if open {
		o.RetryInterval = min(o.TimeoutToFail, firstLook)
	}
	return o
}

// request is that which begins a transaction.
func (d *driver) request(gid string, c *transaction.Content, wait bool) (*dtmgpb.DtmRequest, error) {
	if len(c.Branches) > maxBranches {
		return nil, transaction.TooLarge("branches", "%d branches are more than the %d that DTM is given", len(c.Branches), maxBranches)
	}
	text, err := customOf(c, d.me)
	if err != nil {
		return nil, err
	}
	r := &dtmgpb.DtmRequest{Gid: gid, TransType: string(c.Kind), CustomedData: text, TransOptions: d.transOptions(c.Kind, c.Kind != transaction.Saga, c.Policy, wait)}
	at := d.url(gid)
	if c.Kind == transaction.Message {
		r.QueryPrepared = at
	}
	steps := make([]map[string]string, 0, len(c.Branches))
	for i := range c.Branches {
		b := c.Branches[i]
		b.After = nil
		step := map[string]string{actionOp: at}
		if !b.Undo.IsZero() {
			step[compensateOp] = at
		}
		if c.Kind == transaction.Message && i == 0 {
			b.Confirm = c.Check // a call for the check has no payload: it is looked for here
		}
		sealed, err := d.seal(gid, &b)
		if err != nil {
			return nil, err
		}
		steps, r.BinPayloads = append(steps, step), append(r.BinPayloads, sealed)
	}
	if len(steps) > 0 {
		b, err := json.Marshal(steps)
		if err != nil {
			return nil, err
		}
		r.Steps = string(b)
	}
	return r, nil
}

// secretOf is the token, or one that the sidecars with this data folder share.
func secretOf(env components.Env, o Options) ([]byte, error) {
	if t := o.Token.Reveal(); t != "" {
		return []byte(t), nil
	}
	if env.DataDir == "" {
		return nil, errors.New("token: it is empty, and there is no data folder to keep one in")
	}
	path := filepath.Join(env.DataDir, "dtm", env.ID.Name+".token")
	if b, err := os.ReadFile(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	temp := path + "." + rand.Text()
	defer os.Remove(temp)
	if err := os.WriteFile(temp, []byte(rand.Text()), 0o600); err != nil {
		return nil, err
	}
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) { // another sidecar may have been first
		return nil, err
	}
	return os.ReadFile(path)
}
