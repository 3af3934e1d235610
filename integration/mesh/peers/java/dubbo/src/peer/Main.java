package peer;

import java.util.HashMap;
import java.util.Map;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

/** Dubbo, 2.7 and 3.3, as it comes: a registry is zookeeper://HOST:PORT or N/A, or - for that of the settings, a reference may have a url. */
public final class Main extends Lines {
    private final String who;
    private final Map<String, ServiceConfig<Hello>> providers = new HashMap<>();
    private final Map<String, Hello> services = new HashMap<>();

    private Main(String who) {
        this.who = who;
        ApplicationConfig app = new ApplicationConfig("dubbo-" + who);
        app.setQosEnable(false);
        DubboBootstrap.getInstance().application(app);
    }

    public static void main(String[] args) throws Exception {
        new Main(args[0]).run();
    }

    @Override
    Hello service(String name) {
        return services.get(name);
    }

    @Override
    String act(String[] words) {
        switch (words[0]) {
            case "set": // KEY VALUE: as -DKEY=VALUE would
                System.setProperty(words[1], words[2]);
                return "";
            case "export": { // NAME REGISTRY PORT
                int port = Integer.parseInt(words[3]);
                ServiceConfig<Hello> s = new ServiceConfig<>();
                s.setInterface(Hello.class);
                s.setRef(n -> who + port + ":" + n);
                if (!words[2].equals("-")) s.setRegistry(new RegistryConfig(words[2]));
                s.setProtocol(new ProtocolConfig("dubbo", port));
                s.export();
                providers.put(words[1], s);
                return "";
            }
            case "unexport": // NAME
                providers.remove(words[1]).unexport();
                return "";
            case "refer": { // NAME REGISTRY [URL]
                ReferenceConfig<Hello> r = new ReferenceConfig<>();
                r.setInterface(Hello.class);
                r.setRegistry(new RegistryConfig(words[2]));
                r.setCheck(false);
                r.setTimeout(5000);
                r.setRetries(0);
                if (words.length > 3) r.setUrl(words[3]);
                services.put(words[1], r.get());
                return "";
            }
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }
}
