import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Arrays;

/** Calls stock through the sidecar as an HTTP proxy: java Client.java HOST PORT. */
public class Client {
  public static void main(String[] a) throws Exception {
    HttpClient c = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(5))
        .proxy(ProxySelector.of(new InetSocketAddress(a[0], Integer.parseInt(a[1])))).build();
    byte[] big = new byte[300000];
    Arrays.fill(big, (byte) 'j');
    for (int i = 0; i < 50; i++) {
      byte[] body = i % 2 == 0 ? ("small" + i).getBytes() : big;
      HttpRequest.Builder rq = HttpRequest.newBuilder(URI.create("http://stock/echo")).timeout(Duration.ofSeconds(20))
          .POST(HttpRequest.BodyPublishers.ofByteArray(body));
      if (i % 5 == 0) rq.expectContinue(true);
      HttpResponse<byte[]> rp = c.send(rq.build(), HttpResponse.BodyHandlers.ofByteArray());
      if (rp.statusCode() != 200 || !Arrays.equals(rp.body(), body)) throw new Exception(i + ": " + rp.statusCode() + " " + rp.body().length);
    }
    System.out.println("ok");
  }
}
