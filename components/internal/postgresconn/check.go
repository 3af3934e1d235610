package postgresconn

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// oldest is the first version of the server that has all that the tables need.
const oldest = 13

// errReadOnly is what a server is not used for that is not the primary.
var errReadOnly = errors.New("the server is read-only")

// unfit is why a server is not used whose settings do not keep what the drivers promise.
type unfit struct{ why string }

func (u *unfit) Error() string { return u.why }

// check refuses a server that cannot be written to, is too old, or may lose what it acknowledged. It is asked at each connection: another
// server may be the primary by then, or the same one have been started with other settings.
func (o Options) check(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, `select current_setting('transaction_read_only'), current_setting('server_version_num'),
		current_setting('server_encoding'), current_setting('fsync'), current_setting('synchronous_commit')`).ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return errors.New("the server does not tell its settings")
	}
	row := results[0].Rows[0]
	readOnly, version, encoding, fsync, commit := string(row[0]), string(row[1]), string(row[2]), string(row[3]), string(row[4])
	switch number, err := strconv.Atoi(version); {
	case err != nil || number < oldest*10000:
		return &unfit{fmt.Sprintf("the server's version is %s, at least %d is needed", version, oldest)}
	case encoding != "UTF8":
		return &unfit{"the database's encoding is " + encoding + ", and UTF8 is needed"}
	case readOnly == "on":
		return errReadOnly
	case o.AllowLoss:
		return nil
	case fsync == "off":
		return &unfit{"the server runs with fsync = off, and may lose what it acknowledged: allow_loss: true permits that"}
	case commit == "off":
		return &unfit{"the server runs with synchronous_commit = off, and may lose what it acknowledged: allow_loss: true permits that"}
	}
	return nil
}
