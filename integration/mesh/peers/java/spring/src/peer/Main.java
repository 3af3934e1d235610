package peer;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.cloud.client.discovery.DiscoveryClient;
import org.springframework.cloud.client.serviceregistry.Registration;
import org.springframework.cloud.client.serviceregistry.ServiceRegistry;
import org.springframework.cloud.openfeign.EnableFeignClients;
import org.springframework.cloud.openfeign.FeignClient;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Configuration;
import org.springframework.core.env.Environment;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RestController;

/** Spring Boot with Spring Cloud's discovery, by Nacos or ZooKeeper, and OpenFeign as they come: each provider and each reference is an application of its own, with its settings. */
public final class Main extends Lines {
    private final String who;
    private final Map<String, ConfigurableApplicationContext> applications = new ConcurrentHashMap<>();
    private final Map<String, Hello> services = new ConcurrentHashMap<>();

    private Main(String who) {
        this.who = who;
    }

    public static void main(String[] args) throws Exception {
        new Main(args[0]).run();
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    @RestController
    static class Provider {
        private final Environment env;

        Provider(Environment env) {
            this.env = env;
        }

        @GetMapping("/hello/{name}")
        String hello(@PathVariable("name") String name) {
            return env.getProperty("who") + ":" + name;
        }
    }

    @FeignClient("stock")
    interface Remote {
        @GetMapping("/hello/{name}")
        String hello(@PathVariable("name") String name);
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    @EnableFeignClients(clients = Remote.class)
    static class Consumer {}

    private static ConfigurableApplicationContext start(Class<?> type, WebApplicationType web, List<String> settings) {
        return new SpringApplicationBuilder(type).web(web).registerShutdownHook(false).run(settings.stream().map(s -> "--" + s).toArray(String[]::new));
    }

    @Override
    Hello service(String name) {
        return services.get(name);
    }

    @Override
    String act(String[] words) {
        List<String> settings = new ArrayList<>(List.of("spring.main.banner-mode=off", "logging.level.root=warn", "spring.jmx.enabled=false"));
        switch (words[0]) {
            case "set": // KEY [VALUE]: as -DKEY=VALUE would
                if (words.length > 2) System.setProperty(words[1], words[2]);
                else System.clearProperty(words[1]);
                return "";
            case "export": // NAME REGISTRY PORT [SETTING=VALUE]...
                settings.addAll(List.of("spring.application.name=stock", "spring.cloud.nacos.discovery.server-addr=" + words[2], "spring.cloud.nacos.discovery.ip=127.0.0.1",
                        "spring.cloud.zookeeper.connect-string=" + words[2], "spring.cloud.zookeeper.discovery.instance-host=127.0.0.1",
                        "server.address=127.0.0.1", "server.port=" + words[3], "server.tomcat.threads.max=8", "who=" + who + words[3]));
                settings.addAll(Arrays.asList(words).subList(4, words.length));
                applications.put(words[1], start(Provider.class, WebApplicationType.SERVLET, settings));
                return "";
            case "retire": { // NAME: takes it out of the registry, as the endpoint /actuator/serviceregistry does
                ConfigurableApplicationContext app = applications.get(words[1]);
                @SuppressWarnings("unchecked")
                ServiceRegistry<Registration> registry = app.getBean(ServiceRegistry.class);
                registry.deregister(app.getBean(Registration.class));
                return "";
            }
            case "unexport": // NAME
                applications.remove(words[1]).close();
                return "";
            case "refer": { // NAME REGISTRY [SETTING=VALUE]...
                settings.addAll(List.of("spring.application.name=orders", "spring.cloud.nacos.discovery.server-addr=" + words[2], "spring.cloud.nacos.discovery.register-enabled=false",
                        "spring.cloud.zookeeper.connect-string=" + words[2], "spring.cloud.zookeeper.discovery.register=false",
                        "spring.cloud.loadbalancer.cache.enabled=false"));
                settings.addAll(Arrays.asList(words).subList(3, words.length));
                ConfigurableApplicationContext app = start(Consumer.class, WebApplicationType.NONE, settings);
                applications.put(words[1], app);
                services.put(words[1], app.getBean(Remote.class)::hello);
                return "";
            }
            case "entries": // NAME: how many providers the reference has
                return String.valueOf(applications.get(words[1]).getBean(DiscoveryClient.class).getInstances("stock").size());
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }
}
