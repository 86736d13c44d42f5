// Proves that this program gives the answers that were checked.
using System;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Text.Json;

public static class SelfTest
{
    /// <summary>Run the bundle's self-test; <paramref name="say"/> gets a line for each case.
    /// </summary>
    /// <returns>The number of failures.</returns>
    public static int Run(Model model, string folder, Action<string> say)
    {
        var test = Json.Read(Path.Combine(folder, "selftest.json"));
        var which = Cpu.Name == test.GetProperty("cpu").GetString() ? "same" : "other";
        var most = test.GetProperty($"largest_distance_{which}_cpu").GetDouble();
        var (number, failures) = (0, 0);
        foreach (var wanted in test.GetProperty("cases").EnumerateArray())
        {
            var clock = Stopwatch.StartNew();
            var got = model.Answer(wanted);
            var took = clock.Elapsed.TotalMilliseconds;
            var gaps = wanted.GetProperty("outputs").Select(each => Distance(each, got));
            var tokens = wanted.Find("token_ids")?.Select(each => each.GetInt64());
            var labels = wanted.Find("labels")?.Select(each => each.GetString()!);
            var others =
                (tokens == null || tokens.SequenceEqual(got.Tokens!) ? "" : "OTHER TOKEN IDS, ")
                + (labels == null || labels.SequenceEqual(got.Labels!) ? "" : "OTHER LABELS, ");
            var passes = gaps.All(gap => gap <= most) && others == "";
            if (!passes) failures++;
            say(FormattableString.Invariant(
                $"case {++number}: {(passes ? "pass" : "FAIL")}, {others}")
                + FormattableString.Invariant(
                    $"distance {gaps.Max():0.0e-0} (at most {most}), {took:F1} ms"));
        }
        return failures;
    }

    /// <summary>Length of the difference over the length of the listed values.</summary>
    private static double Distance(JsonElement expected, Answer got)
    {
        var values = got.Outputs[expected.GetProperty("name").GetString()!].Values;
        var wanted = expected.GetProperty("values").Select(each => each.GetDouble());
        var found = expected.GetProperty("at").Select(each => values[each.GetInt32()]);
        var difference = wanted.Zip(found, (a, b) => (a - b) * (a - b)).Sum();
        return difference == 0 ? 0 : Math.Sqrt(difference / wanted.Sum(each => each * each));
    }
}
