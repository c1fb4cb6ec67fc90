/* Tests: libseccomp as a filter compiler behind pipes. One command a line:
 *   i ACTION              a new filter with this default action
 *   d                     without the machine's own architecture
 *   a ARCH                with this one, by its token; answers "0" or an error
 *   o                     as a binary tree, as runc asks for long profiles
 *   n ARCH NAME           answers the number there, negative when there is none
 *   r ACTION NAME COUNT { INDEX OPERATOR VALUE VALUE_TWO }   a rule
 *   e                     answers "ok BYTES" and the program, or "refused" when a rule was
 */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void) {
    static char line[65536], name[256];
    scmp_filter_ctx ctx = NULL;
    int refused = 0;
    while (fgets(line, sizeof line, stdin)) {
        unsigned long a = 0, arch;
        int used = 0, count = 0;
        switch (line[0]) {
        case 'i':
            sscanf(line + 1, "%lx", &a);
            seccomp_release(ctx);
            ctx = seccomp_init((uint32_t)a);
            refused = 0;
            break;
        case 'd':
            seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE);
            break;
        case 'a':
            sscanf(line + 1, "%lx", &arch);
            printf("%d\n", seccomp_arch_add(ctx, (uint32_t)arch));
            break;
        case 'o':
            seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
            break;
        case 'n':
            sscanf(line + 1, "%lx %255s", &arch, name);
            printf("%d\n", seccomp_syscall_resolve_name_arch((uint32_t)arch, name));
            break;
        case 'r': {
            struct scmp_arg_cmp args[6];
            char *at = line + 1;
            sscanf(at, "%lx %255s %d%n", &a, name, &count, &used);
            for (int i = 0; i < count; i++) {
                unsigned index, operator;
                unsigned long long value, value_two;
                at += used;
                sscanf(at, "%u %u %llx %llx%n", &index, &operator, &value, &value_two, &used);
                args[i] = (struct scmp_arg_cmp){index, operator, value, value_two};
            }
            int number = seccomp_syscall_resolve_name(name);
            if (number != __NR_SCMP_ERROR && seccomp_rule_add_array(ctx, (uint32_t)a, number, count, args) < 0)
                refused = 1;
            break;
        }
        case 'e': {
            FILE *file = tmpfile();
            if (refused || !file || seccomp_export_bpf(ctx, fileno(file)) < 0) {
                printf("refused\n");
                if (file) fclose(file);
                break;
            }
            long bytes = lseek(fileno(file), 0, SEEK_END);
            printf("ok %ld\n", bytes);
            rewind(file);
            while (bytes-- > 0) putchar(getc(file));
            fclose(file);
            break;
        }
        }
        fflush(stdout);
    }
    return 0;
}
