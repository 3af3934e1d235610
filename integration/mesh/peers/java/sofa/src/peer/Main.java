package peer;

import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ConsumerConfig;
import com.alipay.sofa.rpc.config.ProviderConfig;
import com.alipay.sofa.rpc.config.RegistryConfig;
import com.alipay.sofa.rpc.config.ServerConfig;
import java.util.HashMap;
import java.util.Map;

/** SOFARPC as it comes: a registry is an address, zookeeper://HOST:PORT or mesh://HOST:PORT, nacos://HOST:PORT, or none. */
public final class Main extends Lines {
    private final String who;
    private final Map<String, ProviderConfig<Hello>> providers = new HashMap<>();
    private final Map<String, ConsumerConfig<Hello>> consumers = new HashMap<>();
    private final Map<String, Hello> services = new HashMap<>();

    private Main(String who) {
        this.who = who;
    }

    public static void main(String[] args) throws Exception {
        new Main(args[0]).run();
    }

    private static RegistryConfig registry(String address) {
        String[] parts = address.split("://");
        if (parts.length < 2) return null; // none
        return new RegistryConfig().setProtocol(parts[0]).setAddress(parts[0].equals("mesh") ? "http://" + parts[1] : parts[1]).setParameter("preferLocalFile", "false");
    }

    @Override
    Hello service(String name) {
        return services.get(name);
    }

    @Override
    String act(String[] words) {
        ApplicationConfig app = new ApplicationConfig().setAppName("sofa-" + who);
        switch (words[0]) {
            case "export": { // NAME REGISTRY PORT
                int port = Integer.parseInt(words[3]);
                ServerConfig server = new ServerConfig().setProtocol("bolt").setHost("127.0.0.1").setPort(port).setDaemon(false);
                ProviderConfig<Hello> p = new ProviderConfig<Hello>().setApplication(app).setInterfaceId(Hello.class.getName()).setRef(n -> who + port + ":" + n)
                        .setServer(server).setRepeatedExportLimit(-1);
                if (registry(words[2]) == null) p.setRegister(false);
                else p.setRegistry(registry(words[2]));
                p.export();
                providers.put(words[1], p);
                return "";
            }
            case "unexport": // NAME
                providers.remove(words[1]).unExport();
                return "";
            case "refer": { // NAME REGISTRY [URL]
                ConsumerConfig<Hello> c = new ConsumerConfig<Hello>().setApplication(app).setInterfaceId(Hello.class.getName()).setProtocol("bolt")
                        .setRepeatedReferLimit(-1).setTimeout(5000).setAddressWait(10000);
                if (words.length > 3) c.setDirectUrl(words[3]).setSubscribe(false);
                else c.setRegistry(registry(words[2]));
                services.put(words[1], c.refer());
                consumers.put(words[1], c);
                return "";
            }
            case "entries": // NAME: how many providers the reference has
                return String.valueOf(consumers.get(words[1]).getConsumerBootstrap().getCluster().getAddressHolder().getAllProviderSize());
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }
}
